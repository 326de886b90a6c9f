-- severity: error
-- sentence: device extent at {physical} is of device {devid}, which has no item
-- progs: Device extent didn't find its device; failed to find device with devid
-- explain: A device extent is of a device that the chunk tree does not know. The device was removed halfway, or bad
--   memory changed the extent's key. `btrfs check --repair` removes it if no chunk uses it.
select devid, physical, length, chunk
from odd_dev_extents
where without_device
