-- severity: error
-- sentence: inode {inode} of subvolume {subvolume} has no name left, and no ORPHAN_ITEM by which it would be deleted
-- progs: no orphan item; is orphan item
-- explain: A file that was deleted while it was open is noted as an orphan, and is freed at the next mount. Without
--   the note its space is never freed. Bugs of old kernels left that; nothing is lost but the space. `btrfs check
--   --repair` adds the note.
-- of: odd_inodes
select subvolume, inode
from odd_inodes
anti join orphans on tree = subvolume and objectid = inode
where nlink = 0
