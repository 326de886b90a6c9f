-- severity: error
-- sentence: {kind} extent {extent} of {length} bytes lies in no block group, or not wholly in one
-- progs: none; bad extent; no block group item
-- explain: Every extent lies within one block group. Here one does not: a block group is lost or too short, or bad
--   memory changed the extent's key. Nothing accounts for the space.
select odd.logical as extent, odd.length as length, kind
from (
    select distinct extents.*
    from extents
    join group_usage as odd on extents.logical >= coalesce(odd.logical, 0) and extents.logical < ends
    where odd.logical is null or ends > odd.logical + odd.length
) as odd
asof left join block_groups on odd.logical >= block_groups.logical
where block_groups.logical is null or odd.logical + odd.length > block_groups.logical + block_groups.length
