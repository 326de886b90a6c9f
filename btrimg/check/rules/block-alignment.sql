-- severity: error
-- sentence: tree block {logical} (tree {tree}, level {level}) does not start at a multiple of {sectorsize} bytes
-- progs: unaligned pointer; tree block bytenr is not aligned to sectorsize; invalid root bytenr
-- explain: The address of a tree block, in the node above it, a root item or the superblock, is no multiple of the
--   sector size. Bad memory changed it. The kernel refuses the node or root; what hangs below is lost. Copy out what
--   can be read (btrimg export) and restore the rest from a backup.
-- of: bad_blocks, odd_heads
select logical, tree, level, sectorsize
from (select logical, tree, level from bad_blocks union select logical, owner, level from odd_heads), superblock
where logical % sectorsize <> 0
