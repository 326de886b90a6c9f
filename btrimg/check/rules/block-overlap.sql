-- severity: error
-- sentence: tree block {logical} (tree {tree}, level {level}): its {detail}
-- progs: bad key order; none where the neighbours have different parents
-- explain: The last key of a tree block is not below the first key of the next block, so that searches for what lies
--   between go astray. Bad memory changed a key in either. The kernel does not look at this, and the block is not read
--   here, since a tree whose blocks overlap need not end. Copy out what can be read (btrimg export).
select logical, tree, level, parent, detail from bad_blocks where fault = 'last-key'
