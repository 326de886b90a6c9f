-- severity: error
-- sentence: subvolume {subvolume}: {item} of inode {inode} in directory {parent} has a name of {name_length} bytes
-- progs: name too long; namelen too large
-- explain: A name has 1 to 255 bytes. One that is longer or empty was written by no kernel; bad memory makes such
--   lengths. The file can be copied out by inode number; `btrfs check --repair` may remove the name.
select subvolume, parent, inode, upper(source) as item, name_length
from wrong_names
where name_length = 0 or name_length > 255
