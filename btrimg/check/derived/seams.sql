-- Where what follows in the logical space does not begin where what is before it ends: extents (1 data, 2 tree blocks),
-- free space (3) and, without a length, starts (4) and ends (0) of block groups. Without a valid free space tree, only
-- what begins too early. From the end of one block group to the start of the next one there is nothing to be. Where
-- extents or free space cannot be read, nothing is said to lack.
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
        select logical, length, 3
        from free_space
        semi join superblock on compat_ro_flags & 3 = 3
        where source <> 'cache'
        union all
        select unnest([logical, logical + length]), 0, unnest([4, 0]) from block_groups
    )
    window pieces as (order by logical, length, kind)
)
cross join superblock
where case
    when logical < before_end then kind between 1 and 3 and before_kind between 1 and 3
    else logical > before_end
        and kind <> 4
        and before_kind <> 0
        and compat_ro_flags & 3 = 3
        and not exists (from unread_trees where tree in (1, 2, 10))
end
