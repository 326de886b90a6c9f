-- Extents whose items cannot be so whatever else there is.
select
    extents.*,
    superblock.generation as last,
    nodesize,
    extents.flags not in (1, 2, 258) or (kind = 'tree block') <> (extents.flags & 2 > 0) as wrong_flags,
    extents.generation > superblock.generation::hugeint + 1 as to_come,
    kind = 'tree block' and logical % 65536 + length > 65536 as crosses,
    kind = 'tree block' and length <> nodesize as wrong_length
from extents
cross join superblock
where wrong_flags or to_come or crosses or wrong_length
