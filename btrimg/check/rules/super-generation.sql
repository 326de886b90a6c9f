-- severity: warning
-- sentence: device {devid}: the superblock at {physical} is of generation {generation}, its {what} of {found}
-- progs: none; cache and super generation don't match
-- explain: The superblock says that the chunk tree, or the v1 space cache, was written by a transaction that is still
--   to come. Bad memory or a tool made that. A kernel complains; it does not use the cache. The next commit sets it
--   right.
select devid, physical, mirror, generation, unnest(odd).what as what, unnest(odd).found as found
from (
    select
        *,
        list_filter([
            {'what': 'chunk tree', 'found': chunk_root_generation},
            {'what': 'space cache', 'found': cache_generation}
        ], lambda each: each.found > generation and each.found < 18446744073709551615) as odd
    from superblocks
    where state = 'sound' and ours
    qualify row_number() over (partition by devid order by mirror) = 1
)
