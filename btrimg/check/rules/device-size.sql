-- severity: error
-- sentence: device {devid} has {total_bytes} bytes by its item, {path} has {device_size}
-- progs: block device size is smaller than total_bytes in device item
-- explain: What was opened for a device is smaller than the device should be. A partition was shrunk before the
--   filesystem was, or an image was cut short. A kernel refuses to mount it. Give the device its size back; what lay
--   beyond the end is lost.
select devid, total_bytes, path, device_size
from odd_devices
where cut_short
