-- Root items whose numbers cannot be.
select roots.*, superblock.generation::hugeint + 1 as latest
from roots
cross join superblock
where roots.generation > latest
    or generation_v2 > latest
    or last_snapshot > latest
    or level > 7
    or drop_level > 7
    or roots.flags & ~281474976710657::ubigint > 0
