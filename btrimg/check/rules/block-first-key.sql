-- severity: error
-- sentence: tree block {logical} (tree {tree}, level {level}): its {detail}
-- progs: tree first key mismatch; wrong key of child node
-- explain: The first key of a tree block is not the one that the node above it names. The write of one of the two was
--   lost, or bad memory changed one of the keys. Searches go astray here, so the block is not read. Copy out what can
--   be read (btrimg export) and restore the rest from a backup.
select logical, tree, level, parent, detail from bad_blocks where fault = 'first-key'
