-- File extents of which not all that is used has checksums, and how many bytes have some. Compressed extents are used
-- whole.
-- of: uncovered_extents
with uses as (
    select
        subvolume,
        inode,
        "offset",
        kind,
        case kind when 'compressed' then extent else extent + extent_offset end as start,
        case kind when 'compressed' then extent + extent_length else extent + extent_offset + length end as ending
    from file_extents
    semi join uncovered_extents on extent = logical
    where kind in ('regular', 'compressed')
)
select
    subvolume,
    inode,
    "offset",
    kind,
    start,
    any_value(uses.ending - start) as length,
    coalesce(
        sum(least(uses.ending, csum_runs.ending) - greatest(start, csum_runs.logical))
            filter (csum_runs.logical is not null),
        0
    )::bigint as found
from uses
left join csum_runs on csum_runs.logical < uses.ending and csum_runs.ending > start
group by all
having found < length
