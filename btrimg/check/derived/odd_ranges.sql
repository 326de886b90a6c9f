-- Ranges of 256 inode numbers in which inode items and names differ somewhere, by links or by type of file: sums of
-- hashes, once for each link, are not those over all references and DIR_ITEMs. Only these inodes are looked at one by
-- one, and names that lead to an inode which is the same in a subvolume judged before (not differs).
with told as (
    select
        subvolume,
        inode >> 8 as range,
        sum(((hash(inode) >> 40) + 1) * nlink) as links,
        sum(
            ((hash(inode) >> 40) + 1)
            * nlink
            * case mode >> 12
                when 8 then 1 when 4 then 2 when 2 then 3 when 6 then 4 when 1 then 5 when 12 then 6 when 10 then 7 else 99
            end
        ) filter (inode <> root_dirid) as types
    from inodes
    join roots on id = subvolume
    group by all
),
found as (
    select
        subvolume,
        inode >> 8 as range,
        sum((hash(inode) >> 40) + 1) filter (source in ('inode_ref', 'inode_extref')) as links,
        sum(((hash(inode) >> 40) + 1) * type) filter (source = 'dir_item') as types
    from names
    where differs and location_type <> 132
    group by all
)
select subvolume, range
from told
full join found using (subvolume, range)
where coalesce(told.links, 0) <> coalesce(found.links, 0) or coalesce(told.types, 0) <> coalesce(found.types, 0)
