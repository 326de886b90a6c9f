-- severity: error
-- sentence: tree block {logical} (level {level}): its {detail}
-- progs: owner mismatch
-- explain: A tree block belongs to another tree than the one that leads to it; only subvolumes share blocks. A block was
--   given out twice, as when the free space was recorded wrongly, or a pointer is wrong. One of the two trees has lost
--   what was here. Copy out what can be read (btrimg export), then make the filesystem anew.
select logical, tree, level, parent, detail from bad_blocks where fault = 'owner'
