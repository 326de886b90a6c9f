-- severity: error
-- sentence: inode {inode} of subvolume {subvolume} has no checksums by its flags, but {found} of the {length} bytes
--   at {start} have some
-- progs: odd csum item; nodatasum shouldn't have datasum
-- explain: A file that is written without checksums (the flag NODATASUM) has data with checksums. They are not kept
--   up to date when the file is overwritten in place, so scrub and send may find errors where there are none. A bit of
--   the inode's flags changed, or an old kernel mixed the two. A copy of the file is sound.
with uses as (
    select subvolume, inode, extent + extent_offset as start, extent + extent_offset + length as ending
    from file_extents
    semi join (select subvolume, inode from inodes where flags & 1 = 1) using (subvolume, inode)
    where kind = 'regular'
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
