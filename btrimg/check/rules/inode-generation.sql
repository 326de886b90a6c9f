-- severity: error
-- sentence: inode {inode} of subvolume {subvolume} is of generation {generation} and was last changed in {transid},
--   after the last commit {last}
-- progs: invalid inode generation or transid
-- explain: An inode says that it was made or changed in a transaction later than the last one. Old kernels wrote
--   uninitialised numbers there; bad memory does that, too. fsync and send go wrong with it, and newer kernels refuse
--   the block. `btrfs check --repair` puts the current generation there.
select subvolume, inode, generation, transid, last
from odd_inodes
where generation > last or transid > last
