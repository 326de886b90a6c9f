-- severity: error
-- sentence: {fault}
-- progs: bad tree block; parent transid verify failed; checksum verify failed
-- explain: No copy of a tree block is what its parent promises: its checksum, address, level, generation, owner or keys
--   are wrong. A medium that lost writes, bad memory or a bug in whoever wrote the block make that. What hangs below the
--   block cannot be reached. Copy out what can be read (btrimg export), then restore from a backup; `btrfs check
--   --repair` is a last resort. Where only one of several devices is at fault, give all of them (-d).
select logical, fault from bad_blocks
