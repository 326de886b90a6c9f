-- severity: error
-- sentence: subvolume {subvolume}: name {name} in directory {parent} leads to inode {inode}, but has no DIR_INDEX
-- progs: no dir index; DIR_INDEX missing
-- explain: A name can be looked up (DIR_ITEM) or stands with the inode (INODE_REF), but not in the directory's order
--   (DIR_INDEX): readdir does not show it, and the directory cannot be removed. An interrupted replay of a log, a lost
--   write or bad memory leaves that; kernels before 5.x had bugs that did, too. `btrfs check --repair` puts the entry
--   back.
select subvolume, parent, name, inode from odd_links where indexes = 0
