-- severity: error
-- sentence: tree block {logical} (tree {tree}, level {level}) {detail}
-- progs: fsid mismatch
-- explain: A tree block carries the id of another filesystem. It is left from one that was on this device before, and
--   the write of the block that should be there was lost; or a change of the filesystem's id (btrfstune -u) was
--   interrupted, which the same command finishes. If this is a seed's block, give the seed device, too (-d).
select logical, tree, level, parent, detail from bad_blocks where fault = 'fsid'
