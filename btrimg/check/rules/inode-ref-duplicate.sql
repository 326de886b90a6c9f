-- severity: error
-- sentence: inode {inode} of subvolume {subvolume} has {refs} references for name {name} in directory {parent}
-- progs: dup inode ref
-- explain: An inode names the same entry of a directory more than once (INODE_REF, INODE_EXTREF), so its link count
--   is too high or its last link cannot be removed. Bad memory or a bug leave that. Copy the file and remove the
--   original, or let `btrfs check --repair` correct it.
select subvolume, parent, name, inode, refs from odd_links where refs > 1
