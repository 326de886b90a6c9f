-- severity: error
-- sentence: tree block {logical} (tree {tree}, level {level}) cannot be read: {detail}
-- progs: failed to read; couldn't map the block
-- explain: No chunk maps the address of a tree block, or no device that holds a copy of it is there or can be read.
--   What hangs below it cannot be reached. Give all devices of the filesystem (-d). Where the address itself is wrong,
--   bad memory or a lost write made the node above it, and what is below is lost; copy out the rest (btrimg export).
select logical, tree, level, parent, detail from bad_blocks where fault in ('unmapped', 'unreadable')
