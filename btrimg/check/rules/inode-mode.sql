-- severity: error
-- sentence: inode {inode} of subvolume {subvolume} has mode {mode:#o}, which is of no type of file
-- progs: invalid inode mode bit; invalid imode mode bits
-- explain: The type in an inode's mode is not one of regular file, directory, symlink, device, fifo and socket, or
--   bits are set that no mode has. Bad memory or old kernels' handling of device inodes did that. `btrfs check
--   --repair` takes the type from the directory entry; the permissions have to be set anew.
select subvolume, inode, mode
from odd_inodes
where mode >> 12 not in (1, 2, 4, 6, 8, 10, 12)
