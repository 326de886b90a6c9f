-- Directories of which the two kinds of entries, or entries and references, are not the same: sums of hashes over all
-- of them differ. Only the names of these are looked at one by one.
select subvolume, parent
from names
where parent <> inode or location_type <> 0 -- the top directory's reference to itself has no entry
group by all
having sum(hash(inode, location_type, name, type) >> 8) filter (source = 'dir_item')
        is distinct from sum(hash(inode, location_type, name, type) >> 8) filter (source = 'dir_index')
    or sum(hash(inode, name, index) >> 8) filter (source = 'dir_index' and location_type <> 132)
        is distinct from sum(hash(inode, name, index) >> 8) filter (source in ('inode_ref', 'inode_extref'))
