-- Heads of tree blocks that cannot be so.
select logical, owner, level, items, blocks.flags as flags, blocks.generation as generation, superblock.generation as last
from tree_blocks as blocks
cross join superblock
where blocks.flags & 1 = 0
    or blocks.flags >> 56 <> 1
    or blocks.generation > last::hugeint + (owner = 18446744073709551610)::ubigint
    or items = 0 and owner in (1, 2, 3, 4, 5, 18446744073709551607)
    or logical % sectorsize <> 0
