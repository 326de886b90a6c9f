-- Directory entries of each directory: how many, and how long their names are together.
select subvolume, parent as inode, count(*) as entries, sum(name_length) as names_size
from names
where source in ('dir_item', 'dir_index')
group by all
