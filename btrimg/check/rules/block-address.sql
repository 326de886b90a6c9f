-- severity: error
-- sentence: tree block {logical} (tree {tree}, level {level}) {detail}
-- progs: bytenr mismatch
-- explain: At the address that its parent names stands a sound tree block that was written for another address, in all
--   copies. A write went astray, or the parent's pointer is wrong. What should be there is not; what hangs below it
--   cannot be reached. Copy out what can be read (btrimg export) and restore the rest from a backup.
select logical, tree, level, parent, detail from bad_blocks where fault = 'bytenr'
