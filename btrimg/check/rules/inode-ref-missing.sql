-- severity: error
-- sentence: subvolume {subvolume}: name {name} in directory {parent} leads to inode {inode}, which has no such
--   INODE_REF
-- progs: no inode ref; INODE_REF missing
-- explain: A directory has an entry for an inode which does not name it in an INODE_REF or INODE_EXTREF: unlinking
--   the name fails and the filesystem goes read-only. An interrupted replay of a log, a lost write or bad memory leaves
--   that; kernels before 5.x had bugs that did, too. The file can still be read through the name; `btrfs check
--   --repair` adds the reference or removes the entry.
select subvolume, parent, name, inode from odd_links where refs = 0 and not leads_to_subvolume
