-- severity: warning
-- sentence: the free space tree has a head for [{logical}, +{length}), which is no block group
-- progs: free space info recorded extents, counted; no block group
-- explain: The head of a block group in the free space tree stands for none. mkfs.btrfs before 6.19 leaves those of
--   the block groups that it makes for a start. It does no harm, but btrfs check from 6.19 on takes it for an error;
--   older ones do not look. `btrimg edit IMAGE feature free-space-tree rebuild` makes the tree anew, and so does
--   mounting with `-o clear_cache,space_cache=v2`.
select logical, length
from odd_free_space
where without_group
