-- Files whose file extents do not follow each other without a gap: of those with several, the sums of hashes of starts
-- and ends differ by more than the first and the last. Inline data goes on to the end of its sector.
with several as (
    select
        subvolume,
        inode,
        "offset",
        "offset" + case kind when 'inline' then (length + sectorsize - 1) // sectorsize * sectorsize else length end as ending
    from file_extents
    semi join (select distinct subvolume, inode from file_extents where "offset" > 0) using (subvolume, inode),
        superblock
)
select subvolume, inode
from several
group by all
having sum(hash(ending) >> 8) - sum(hash("offset") >> 8) <> (hash(max(ending)) >> 8)::hugeint - (hash(min("offset")) >> 8)
