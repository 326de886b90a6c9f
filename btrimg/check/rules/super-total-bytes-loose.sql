-- severity: warning
-- sentence: the superblock says that all devices together have {total_bytes} bytes, their items say {device_bytes}
-- progs: minor unaligned/mismatch device size detected
-- explain: The superblock keeps the sum of the sizes of all devices; here it is more than that, or one of the two is
--   not a multiple of the sector size. Old kernels left that after a device was resized to an odd size. Kernels mount
--   it. `btrfs rescue fix-device-size` corrects it.
select total_bytes, device_bytes
from odd_totals
where not dumped and (total_bytes > device_bytes or total_bytes = device_bytes and total_bytes % sectorsize > 0)
