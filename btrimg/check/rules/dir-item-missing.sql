-- severity: error
-- sentence: subvolume {subvolume}: name {name} in directory {parent} leads to inode {inode}, but has no DIR_ITEM
-- progs: no dir item; DIR_ITEM missing
-- explain: A name stands in the directory's order (DIR_INDEX) or with the inode (INODE_REF), but not where it is
--   looked up (DIR_ITEM): readdir may show it, opening it fails. An interrupted replay of a log, a lost write or bad
--   memory leaves that; kernels before 5.x had bugs that did, too. The file can be copied out by inode number; `btrfs
--   check --repair` puts the entry back.
select subvolume, parent, name, inode from odd_links where items = 0
