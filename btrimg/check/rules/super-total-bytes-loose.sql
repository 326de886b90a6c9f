-- severity: warning
-- sentence: the superblock says that all devices together have {total_bytes} bytes, their items say {found}
-- progs: minor unaligned/mismatch device size detected
-- explain: The superblock keeps the sum of the sizes of all devices; here it is more than that, or one of the two is
--   not a multiple of the sector size. Old kernels left that after a device was resized to an odd size. Kernels mount
--   it. `btrfs rescue fix-device-size` corrects it.
select total_bytes, found
from superblock
join (select coalesce(sum(total_bytes), 0) as found from devices) as items on
    total_bytes > found or total_bytes = found and total_bytes % sectorsize > 0
where flags & (3::ubigint << 33) = 0
