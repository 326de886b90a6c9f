-- severity: error
-- sentence: tree block {logical} (tree {tree}, level {level}) has {detail}
-- progs: invalid nr_items; nritems too small; nritems too large; invalid root, root must never be empty
-- explain: The number of slots of a tree block cannot be: more than there is room for, none in a node, or none in the
--   root of a tree that is never empty (root, extent, chunk, device tree, the top-level subvolume). Bad memory changed
--   it before the checksum was made. What hangs below the block cannot be reached, or the whole tree is lost.
select logical, tree, level, parent, detail from bad_blocks where fault = 'nritems'
union all
select logical, owner, level, 0, 'no items, but this tree is never empty' from odd_heads
where items = 0 and owner in (1, 2, 3, 4, 5, 18446744073709551607)
