-- severity: error
-- sentence: the log of subvolume {subvolume}: inode {inode} uses {length} bytes at {logical} from its offset {offset} on, of
--   which not all have checksums
-- progs: csum missing in log
-- explain: The log tree, which the kernel replays at the next mount, holds a file extent of a file with checksums, but
--   the checksums of its data are neither in the log nor in the checksum tree. After the replay, reading the file
--   fails. Kernels before 6.10 left that in rare cases. `btrfs rescue zero-log` drops the log, and with it what was
--   written by fsync in the last seconds; or mount, and copy the file with rescue=ignoredatacsums.
select subvolume, inode, log_data.offset, logical, length from log_data where not checksummed
