-- Inodes whose numbers cannot be, or are not those of the entries below them; and those without links, of which some are
-- orphans.
select
    inodes.subvolume as subvolume,
    inodes.inode as inode,
    inodes.generation as generation,
    transid,
    superblock.generation as last,
    size,
    nlink,
    mode,
    inodes.flags as flags,
    entries,
    coalesce(names_size, 0) as names_size
from inodes
cross join superblock
left join directories using (subvolume, inode)
where nlink = 0
    or mode >> 12 not in (1, 2, 4, 6, 8, 10, 12)
    or mode >> 12 = 4 and (nlink > 1 or size <> coalesce(names_size, 0))
    or mode >> 12 <> 4 and entries > 0
    or mode >> 12 = 10 and inodes.flags & 192 <> 0
    or inode = 18446744073709551604
    or inodes.generation > last
    or transid > last
