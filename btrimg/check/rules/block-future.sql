-- severity: error
-- sentence: tree block {logical} (tree {tree}, level {level}) is of generation {generation}, the superblock of {last}
-- progs: invalid root generation; bad generation
-- explain: A tree block says that it was written by a transaction after the last one that was committed. The superblock
--   that is in use is older than the tree, as when only part of a device was copied or restored; or bad memory changed
--   the generation in the block and in what leads to it. The kernel refuses such roots and will write blocks that seem
--   older than these. Only the log tree may be one ahead.
select logical, owner as tree, level, generation, last
from odd_heads
where generation > last::hugeint + (owner = 18446744073709551610)::ubigint
