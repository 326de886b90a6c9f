-- severity: error
-- sentence: directory {inode} of subvolume {subvolume} has {nlink} links
-- progs: directory has invalid nlink; shouldn't have more than one link
-- explain: A directory has one name, and so one link. A hard link to a directory makes loops, and the kernel refuses
--   such a block. Bad memory, or a tool that wrote the image, did that. Remove all names but one with `btrfs check
--   --repair`, or copy the directory.
select subvolume, inode, nlink from odd_inodes where mode >> 12 = 4 and nlink > 1
