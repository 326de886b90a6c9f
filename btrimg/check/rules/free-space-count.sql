-- severity: error
-- sentence: block group {logical}: the free space tree counts {extent_count} free ranges, it has {found}
-- progs: free space info recorded extents, counted
-- explain: The head of a block group in the free space tree counts its free ranges. Here it is wrong: bad memory, or
--   a lost write. A kernel notices, loads the space from the extent tree, and complains. Mount with `-o
--   clear_cache,space_cache=v2` to have the tree made anew.
select logical, extent_count, coalesce(found, 0) as found
from free_space_infos
semi join block_groups using (logical, length)
semi join superblock on compat_ro_flags & 3 = 3
left join (
    select block_group as logical, count(*) filter (source = 'extent' or start is distinct from before_end) as found
    from (
        select
            infos.logical as block_group,
            source,
            free.logical as start,
            lag(free.logical + free.length) over (partition by infos.logical order by free.logical) as before_end
        from (from free_space where source <> 'cache') as free
        asof join free_space_infos as infos on free.logical >= infos.logical
    )
    group by block_group
) using (logical)
where extent_count <> coalesce(found, 0)
