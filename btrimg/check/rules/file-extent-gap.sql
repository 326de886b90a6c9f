-- severity: error
-- sentence: inode {inode} of subvolume {subvolume} has size {size}, but no file extent from {start} on
-- progs: file extent discount; gap exists; should have a file extent hole
-- explain: Without the feature no-holes every byte of a file up to its size is in a file extent, holes too. Here one
--   is missing: an extent was lost, and with it what was written, or an old kernel did not write the hole (it reads as
--   zeros either way). Compare the file with a backup. btrfs check --repair fills the gap with a hole.
with old as (select sectorsize from superblock where incompat_flags & 512 = 0),
ends as (
    select
        subvolume,
        inode,
        "offset" as start,
        "offset" + case kind when 'inline' then (length + sectorsize - 1) // sectorsize * sectorsize else length end as ending
    from file_extents, old
),
before as (
    select
        subvolume,
        inode,
        start,
        coalesce(max(ending) over (partition by subvolume, inode order by start
            rows between unbounded preceding and 1 preceding), 0) as reached
    from ends
    union all
    select subvolume, inode, 9223372036854775807 as start, coalesce(max(ending), 0) as reached
    from inodes
    left join ends using (subvolume, inode), old
    group by all
)
select subvolume, inode, size, min(reached) as start
from before
join inodes using (subvolume, inode), old
where mode >> 12 in (8, 10) and nlink > 0 and reached < start and reached < size
group by all
