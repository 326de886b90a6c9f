-- severity: error
-- sentence: subvolume {subvolume}: directory {parent} has {entries} DIR_ITEM entries of name {name}
-- progs: dup filename; dup dir item
-- explain: A name stands more than once in a directory. Only the first can be reached by path, and unlinking it may
--   remove the wrong one. Kernels that replayed a log wrongly, or a rename in bad memory, left that. Copy the file of
--   each by its inode number and remove the names.
with same_hash as (
    select subvolume, parent, hash from names where source = 'dir_item' group by all having count(*) > 1
)
select subvolume, parent, name, count(*) as entries
from names
semi join same_hash using (subvolume, parent, hash)
where source = 'dir_item'
group by all
having count(*) > 1
