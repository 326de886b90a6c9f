-- Directories that names are in: how many entries they have and how long the names of these are together; and whether
-- the two kinds of entries, or entries and references, are not the same: sums of hashes over all of them differ.
select
    subvolume,
    parent as inode,
    count(*) filter (source in ('dir_item', 'dir_index')) as entries,
    sum(name_length) filter (source in ('dir_item', 'dir_index')) as names_size,
    sum(hash(inode, location_type, name, type) >> 8) filter (told_by = 'dir_item')
            is distinct from sum(hash(inode, location_type, name, type) >> 8) filter (told_by = 'dir_index')
        or sum(hash(inode, name, index) >> 8) filter (told_by = 'dir_index' and location_type <> 132)
            is distinct from sum(hash(inode, name, index) >> 8) filter (told_by in ('inode_ref', 'inode_extref')) as odd
from (
    -- The top directory's reference to itself has no entry.
    select *, case when parent <> inode or location_type <> 0 then source end as told_by from names
)
group by subvolume, parent
