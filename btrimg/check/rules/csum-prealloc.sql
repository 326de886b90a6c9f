-- severity: error
-- sentence: inode {inode} of subvolume {subvolume}: {found} of the {length} bytes at {start} have checksums, but were
--   never written
-- progs: odd csum item; prealloc shouldn't have csum
-- explain: Space that was reserved and not yet written reads as zeros and has no checksums, unless another file that
--   shares the extent has written it. Here it has some: a lost write of the file extent, after which what was written
--   reads as zeros, or a bug of an old kernel. If the file misses what was written last, look at the extent itself
--   (btrimg locate); else the checksums are only in the way.
with uses as (
    select subvolume, inode, extent + extent_offset as start, extent + extent_offset + length as ending
    from file_extents
    anti join (
        select extent from file_extents where kind = 'regular'
    ) as written using (extent)
    where kind = 'prealloc'
        -- A subvolume whose deletion has begun may have written it; its rows are gone.
        and not exists (from roots where refs = 0 and drop_objectid > 0)
)
select
    subvolume,
    inode,
    start,
    any_value(uses.ending - start) as length,
    sum(least(uses.ending, csum_runs.ending) - greatest(start, csum_runs.logical))::bigint as found
from uses
join csum_runs on csum_runs.logical < uses.ending and csum_runs.ending > start
group by all
