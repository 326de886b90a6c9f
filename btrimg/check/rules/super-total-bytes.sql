-- severity: error
-- sentence: the superblock says that all devices together have {total_bytes} bytes, their items say {device_bytes}
-- progs: super total bytes smaller than real device(s) size
-- explain: The superblock keeps the sum of the sizes of all devices. Here it is less than that, and kernels since
--   4.14 refuse to mount the filesystem. Old kernels left that after a device was resized to an odd size. `btrfs
--   rescue fix-device-size` corrects it.
select total_bytes, device_bytes
from odd_totals
where total_bytes < device_bytes
