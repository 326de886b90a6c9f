-- severity: error
-- sentence: tree block {logical} (tree {tree}, level {level}) has a {detail}
-- progs: checksum verify failed
-- explain: No copy of a tree block has the checksum that stands in it: the medium, the way to it or memory changed it
--   after it was written. What hangs below the block cannot be reached. Copy out what can be read (btrimg export) and
--   restore the rest from a backup. Where only one of several devices is at fault, give all of them (-d).
select logical, tree, level, parent, detail from bad_blocks where fault = 'csum'
