-- severity: error
-- sentence: inode {inode} of subvolume {subvolume} has {entries} directory entries, but mode {mode:#o} is not that of
--   a directory
-- progs: odd dir item; shouldn't have DIR_INDEX
-- explain: Something that is not a directory has entries of a directory. Bad memory changed the mode of the inode or
--   the keys of the entries. The files that the entries lead to can be copied out by inode number; if it is the mode,
--   `btrfs check --repair` may put it right.
select subvolume, inode, entries, mode
from odd_inodes
where mode >> 12 <> 4 and entries > 0
