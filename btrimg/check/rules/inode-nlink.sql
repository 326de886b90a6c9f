-- severity: error
-- sentence: inode {inode} of subvolume {subvolume} has {nlink} links, but {names} names
-- progs: link count wrong; nlink not equal to inode_refs
-- explain: The number of links that an inode counts differs from its names (INODE_REF, INODE_EXTREF). An interrupted
--   replay of a log, or a lost write, leaves that. A count too low frees the file while it still has a name: unlink
--   nothing, copy the file, and let `btrfs check --repair` correct the count.
-- of: odd_ranges
with odd as (
    select subvolume, inode, nlink
    from inodes
    semi join odd_ranges on odd_ranges.subvolume = inodes.subvolume and range = inode >> 8
    where inode <> 18446744073709551604 -- the old cache of free inode numbers, which has no name
),
found as (
    select subvolume, inode, count(*) as names from odd_names where source in ('inode_ref', 'inode_extref') group by all
)
select subvolume, inode, nlink, coalesce(names, 0) as names
from odd
left join found using (subvolume, inode)
where nlink <> coalesce(names, 0)
