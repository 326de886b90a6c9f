-- severity: error
-- sentence: directory {inode} of subvolume {subvolume} has size {size}, but its names take {names_size}
-- progs: dir isize wrong; DIR INODE size not equal
-- explain: The size of a directory is the length of all names in it, counted in both indexes. Replay of a log by old
--   kernels, or a missing entry, leaves it wrong. A wrong size keeps an empty directory from being removed, and hides
--   nothing. `btrfs check --repair` corrects it.
-- of: odd_inodes
select subvolume, inode, size, names_size
from odd_inodes
anti join orphans on tree = subvolume and objectid = inode
where mode >> 12 = 4 and nlink > 0 and size <> names_size
