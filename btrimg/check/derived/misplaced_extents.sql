-- Extents that do not lie within one block group, or in one that holds something else.
with odd_groups as (
    select *, logical is null or ends > logical + length as beyond
    from group_usage
    where beyond and not exists (from unread_trees where tree in (1, 2, 11)) or data_extents > 0 and flags & 1 = 0 or blocks > 0 and flags & 6 = 0
),
candidates as (
    select distinct extents.*
    from extents
    join odd_groups on extents.logical >= coalesce(odd_groups.logical, 0) and extents.logical < ends
)
select
    odd.logical as extent,
    odd.length as length,
    odd.kind as kind,
    block_groups.logical as block_group,
    holds,
    block_groups.logical is null or odd.logical + odd.length > block_groups.logical + block_groups.length as outside
from candidates as odd
asof left join block_groups on odd.logical >= block_groups.logical
where outside and not exists (from unread_trees where tree in (1, 2, 11))
    or not outside and block_groups.flags & case odd.kind when 'data' then 1 else 6 end = 0
union all
select blocks.logical, 0, 'tree block', block_groups.logical, holds, false
from tree_blocks as blocks
asof join block_groups on blocks.logical >= block_groups.logical
where block_groups.flags & case owner when 3 then 2 else 4 end = 0
    and block_groups.flags & 6 > 0
    and blocks.logical < block_groups.logical + block_groups.length
    and owner < 1::ubigint << 63
