-- severity: error
-- sentence: tree block {logical} (tree {tree}, level {level}): {detail}
-- progs: bad level; level verify failed; tree level mismatch
-- explain: A tree block stands on another level of its tree than what leads to it says, or on one that no tree has.
--   Bad memory changed the block, the node above it or the root item. What hangs below the block cannot be reached.
--   Copy out what can be read (btrimg export) and restore the rest from a backup.
select logical, tree, level, parent, detail from bad_blocks where fault = 'level'
