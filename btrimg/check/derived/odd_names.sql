-- Names of inodes that have to be looked at one by one: see odd_ranges.
select names.subvolume, parent, inode, name, source, type
from names
semi join odd_ranges on odd_ranges.subvolume = names.subvolume and range = inode >> 8
where location_type <> 132
union all
select subvolume, parent, inode, name, source, type from names where not differs and location_type <> 132
