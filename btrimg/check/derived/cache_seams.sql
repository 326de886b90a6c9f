-- As seams, with what v1 space caches say in the place of the free space tree (3), and what they leave out (5); in block
-- groups of which there is a cache.
-- of: cached_space
with cached as (
    select distinct groups.*
    from block_groups as groups
    join cached_space as free on free.logical >= groups.logical and free.logical < groups.logical + groups.length
    where not reserved
)
select logical, length, kind, before, before_end, before_kind, block_group
from (
    select
        *,
        lag(logical) over pieces as before,
        lag(logical + length) over pieces as before_end,
        lag(kind) over pieces as before_kind
    from (
        select
            pieces.logical as logical,
            pieces.length as length,
            kind,
            cached.logical as block_group
        from (
            select logical, length, case kind when 'data' then 1 else 2 end::utinyint as kind from extents
            union all
            select logical, length, case when reserved then 5 else 3 end from cached_space
        ) as pieces
        join cached on pieces.logical >= cached.logical and pieces.logical < cached.logical + cached.length
        union all
        select unnest([logical, logical + length]), 0, unnest([4, 0]), logical from cached
    )
    window pieces as (partition by block_group order by logical, length, kind)
)
where case
    when logical < before_end then kind between 1 and 3 and before_kind between 1 and 3 and (kind = 3) <> (before_kind = 3)
    else logical > before_end and not exists (from unread_trees where tree in (1, 2))
end
