-- severity: error
-- sentence: inode {inode} of subvolume {subvolume} is a symlink with the flags {flags:#x}
-- progs: odd inode flags; symlinks must never have immutable/append flags set
-- explain: Symlinks cannot be immutable or append-only (flags 0x40 and 0x80), so bad memory set them. Then the link
--   cannot be removed. Make the rest of the directory anew elsewhere, or clear the flags with `btrfs check --repair`,
--   where the version does.
select subvolume, inode, flags
from odd_inodes
where mode >> 12 = 10 and flags & 192 <> 0
