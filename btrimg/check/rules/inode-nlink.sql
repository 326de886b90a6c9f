-- severity: error
-- sentence: inode {inode} of subvolume {subvolume} has {nlink} links, but {names} names
-- progs: link count wrong
-- explain: The number of links that an inode counts differs from its names (INODE_REF, INODE_EXTREF). An interrupted
--   replay of a log, or a lost write, leaves that. A count too low frees the file while it still has a name: unlink
--   nothing, copy the file, and let `btrfs check --repair` correct the count.
select inodes.subvolume, inodes.inode, nlink, coalesce(found, 0) as names
from inodes
left join (
    select subvolume, inode, count(*) as found from names where source in ('inode_ref', 'inode_extref') group by all
) using (subvolume, inode)
where nlink <> coalesce(found, 0) and (nlink > 0 or found > 0)
