-- severity: error
-- sentence: subvolume {subvolume} still has the cache of free inode numbers, inode {inode}
-- progs: deprecated free inode cache
-- explain: Kernels before 5.11 with the mount option inode_cache kept a list of free inode numbers in each subvolume.
--   Newer ones do not know it and leave it; it takes space and does no other harm. `btrfs rescue clear-ino-cache`
--   removes it.
select subvolume, inode from odd_inodes where inode = 18446744073709551604
