-- severity: error
-- sentence: inode {inode} of subvolume {subvolume}: the file extent at {offset} ends at {ending}, after the next one
--   starts at {next}
-- progs: file extent overlap
-- explain: Two file extents claim the same bytes of a file. Which of them is read is chance. Bugs of old kernels
--   (inline data that was not removed, races with clones) or bad memory did that. Read the file and compare it with a
--   backup; a copy of it is sound. btrfs check --repair does not correct it.
-- of: gapped_files
with following as (
    select
        subvolume,
        inode,
        "offset",
        "offset" + case kind when 'inline' then (length + sectorsize - 1) // sectorsize * sectorsize else length end as ending,
        lead("offset") over (partition by subvolume, inode order by "offset") as next
    from file_extents
    semi join gapped_files using (subvolume, inode),
        superblock
)
select subvolume, inode, "offset", ending, next
from following
where ending > next
