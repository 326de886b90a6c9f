-- Heads of block groups in a valid free space tree that stand for none, or for other free space than there is.
-- of: free_space_infos
select
    infos.logical as logical,
    infos.length as length,
    extent_count,
    infos.flags as flags,
    groups.logical is null as without_group,
    coalesce(found, 0) as found,
    coalesce(case infos.flags & 1 when 1 then ranges else bitmaps end, 0) as of_other_form
from free_space_infos as infos
cross join superblock
left join block_groups as groups on groups.logical = infos.logical and groups.length = infos.length
left join (
    select
        head as logical,
        count(*) filter (source = 'extent' or start is distinct from before_end) as found,
        count(*) filter (source = 'extent') as ranges,
        count(*) filter (source = 'bitmap') as bitmaps
    from (
        select
            infos.logical as head,
            source,
            free.logical as start,
            lag(free.logical + free.length) over (partition by infos.logical order by free.logical) as before_end
        from (from free_space where source <> 'cache') as free
        asof join free_space_infos as infos on free.logical >= infos.logical
        where free.logical - infos.logical < infos.length -- where a head ends could overflow
    )
    group by head
) as entries on entries.logical = infos.logical
where compat_ro_flags & 3 = 3
    and not exists (from unread_trees where tree in (1, 2, 10, 11))
    and (without_group or extent_count <> coalesce(found, 0) or of_other_form > 0)
