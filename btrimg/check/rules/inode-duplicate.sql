-- severity: error
-- sentence: subvolume {subvolume} has {items} INODE_ITEMs for inode {inode}
-- progs: dup inode item
-- explain: An inode has one INODE_ITEM, whose key ends in 0. Here bad memory changed a key, so that one inode has two
--   and another may have none. Which of them the kernel takes is chance; copy the file, and restore the other from a
--   backup.
-- of: odd_ranges
select subvolume, inode, count(*) as items
from inodes
semi join odd_ranges on odd_ranges.subvolume = inodes.subvolume and range = inode >> 8
group by all
having count(*) > 1
