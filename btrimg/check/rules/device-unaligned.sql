-- severity: warning
-- sentence: device {devid} has {total_bytes} bytes, which is no multiple of {sectorsize}
-- progs: unaligned total_bytes detected
-- explain: The size of a device is not a multiple of the sector size. Old kernels took it as it was. `btrfs rescue
--   fix-device-size` rounds it down.
select devid, total_bytes, sectorsize
from odd_devices
where total_bytes % sectorsize > 0
