-- Ranges of 256 inode numbers in which the bytes that inodes count are not those of their file extents somewhere:
-- weighed sums differ. Only these inodes are looked at one by one.
with told as (
    select subvolume, inode >> 8 as range, sum(nbytes::hugeint * ((hash(inode) >> 48) + 1)) as bytes
    from inodes
    where mode >> 12 in (8, 10) and nlink > 0
    group by all
),
found as (
    select subvolume, inode >> 8 as range, sum(length::hugeint * ((hash(inode) >> 48) + 1)) as bytes
    from file_extents
    where kind <> 'hole'
    group by all
)
select subvolume, range
from told
full join found using (subvolume, range)
where coalesce(told.bytes, 0) <> coalesce(found.bytes, 0)
