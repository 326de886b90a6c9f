-- Block groups with the extents that begin in them, and a row without a block group for those that begin before all.
select
    block_groups.logical as logical,
    block_groups.length as length,
    any_value(block_groups.used) as used,
    any_value(block_groups.flags) as flags,
    sum(extents.length) as found,
    count(*) filter (extents.kind = 'data') as data_extents,
    count(*) filter (extents.kind = 'tree block') as blocks,
    max(extents.logical + extents.length) as ends
from extents
asof left join block_groups on extents.logical >= block_groups.logical
group by all
