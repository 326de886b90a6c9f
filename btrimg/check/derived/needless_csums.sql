-- Uses of extents that should have no checksums, by the flags of the inode (nodatasum) or because nothing was written
-- there (prealloc), with how many of their bytes have some. Space that another file wrote is written; and a subvolume
-- whose deletion has begun may have written it, but its rows are gone.
-- of: csum_runs
with uses as (
    select
        subvolume,
        inode,
        extent + extent_offset as start,
        extent + extent_offset + length as ending,
        case kind when 'regular' then 'nodatasum' else 'prealloc' end as why
    from file_extents
    where (kind = 'regular' and (subvolume, inode) in (select (subvolume, inode) from inodes where flags & 1 = 1))
        or (
            kind = 'prealloc'
            and extent not in (select extent from file_extents where kind = 'regular')
            and not exists (from roots where refs = 0 and drop_objectid > 0)
        )
)
select
    why,
    subvolume,
    inode,
    start,
    any_value(uses.ending - start) as length,
    sum(least(uses.ending, csum_runs.ending) - greatest(start, csum_runs.logical))::bigint as found
from uses
join csum_runs on csum_runs.logical < uses.ending and csum_runs.ending > start
group by all
