-- severity: error
-- sentence: tree block {logical} (tree {tree}, level {level}): its {detail}
-- progs: parent transid verify failed
-- explain: A tree block was written by another transaction than what leads to it says. Older: a write that the device
--   had confirmed was lost, as with a drive whose cache ignores flushes. Newer: something overwrote a block that was
--   still in use. What hangs below cannot be reached. A mount with `rescue=usebackuproot` may find an older state
--   that is whole; else copy out what can be read (btrimg export) and restore the rest from a backup.
select logical, tree, level, parent, detail from bad_blocks where fault = 'generation'
