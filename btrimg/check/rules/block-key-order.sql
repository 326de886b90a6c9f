-- severity: error
-- sentence: tree block {logical} (tree {tree}, level {level}) has {detail}
-- progs: bad key order
-- explain: The keys in a tree block do not go up. A flipped bit in memory is by far the most usual cause: one key
--   differs by a power of two from what it should be. Nothing in the block can be found reliably, so it is not read.
--   Test the memory. `btrfs check --repair` sorts the keys, which is right only where it was a sort that went wrong.
select logical, tree, level, parent, detail from bad_blocks where fault = 'key-order'
