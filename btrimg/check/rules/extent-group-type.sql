-- severity: error
-- sentence: {kind} extent {extent} lies in block group {logical}, which holds {holds}
-- progs: bad extent, type mismatch with chunk; CHUNK_TYPE_MISMATCH
-- explain: Data lies in block groups for data, and tree blocks in those for metadata, those of the chunk tree in
--   system ones. Here an extent lies where it cannot be. Bad memory changed flags or addresses. Profiles, and what
--   scrub does, are then wrong for it.
select logical, extent, kind, case flags & 7 when 1 then 'data' when 2 then 'system' when 4 then 'metadata' else 'nothing' end as holds
from (
    select
        group_usage.logical as logical,
        group_usage.flags as flags,
        extents.logical as extent,
        extents.kind as kind
    from group_usage
    join extents on extents.logical >= group_usage.logical and extents.logical < ends
    where data_extents > 0 and group_usage.flags & 1 = 0 and extents.kind = 'data'
        or group_usage.tree_blocks > 0 and group_usage.flags & 6 = 0 and extents.kind = 'tree block'
)
union all
select block_groups.logical, blocks.logical, 'tree block', holds::text
from tree_blocks as blocks
asof join block_groups on blocks.logical >= block_groups.logical
where case owner when 3 then block_groups.flags & 2 else block_groups.flags & 4 end = 0
    and block_groups.flags & 6 > 0
    and blocks.logical < block_groups.logical + block_groups.length
    and owner < 1::ubigint << 63
