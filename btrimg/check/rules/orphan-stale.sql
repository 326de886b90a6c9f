-- severity: warning
-- sentence: subvolume {subvolume}: an ORPHAN_ITEM names inode {inode}, which is not there
-- progs: none
-- explain: The note that an inode is to be deleted outlived it. A crash between the two leaves that; the next mount
--   removes the note. If it stays, it does no harm.
-- of: orphans
select tree as subvolume, objectid as inode
from orphans
anti join inodes on subvolume = tree and inode = objectid
where tree <> 1
