-- Where what follows in the logical space does not begin where what is before it ends: extents (1 data, 2 tree blocks),
-- free space (3) and, without a length, the two ends of every block group (0).
select logical, length, kind, before, before_end, before_kind
from (
    select
        logical,
        length,
        kind,
        lag(logical) over pieces as before,
        lag(logical + length) over pieces as before_end,
        lag(kind) over pieces as before_kind
    from (
        select logical, length, case kind when 'data' then 1 else 2 end::utinyint as kind from extents
        union all
        select logical, length, 3 from free_space where source <> 'cache'
        union all
        select unnest([logical, logical + length]), 0, 0 from block_groups
    )
    window pieces as (order by logical, length)
)
where logical <> before_end
