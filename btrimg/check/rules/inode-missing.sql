-- severity: error
-- sentence: inode {inode} of subvolume {subvolume} has {what}, but no INODE_ITEM
-- progs: no inode item; INODE_ITEM missing
-- explain: A name, file extents, extended attributes or the entries of a directory belong to an inode that is not
--   there. Opening such a name fails. A lost write or bad memory leaves that, and so did interrupted deletions of old
--   kernels. Extents that are still there can be read by copying them with a recovery tool; `btrfs check --repair`
--   makes a new inode item or removes the rest.
with evidence as (
    select subvolume, inode, 'a name' as what from odd_names
    union all
    select subvolume, inode, 'directory entries' from directories where entries > 0
    union all
    select subvolume, inode, 'extended attributes' from xattrs
    union all
    select subvolume, inode, 'file extents' from file_extents
)
select subvolume, inode, string_agg(distinct what, ', ' order by what) as what
from evidence
anti join linked_inodes using (subvolume, inode)
group by all
