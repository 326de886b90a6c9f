-- severity: error
-- sentence: stripe {number} of chunk {chunk} is on device {devid} ({dev_uuid}), {fault}
-- progs: none; devid is missing
-- explain: A stripe names a device that has no item in the chunk tree, or its item says another uuid. A device was
--   removed or replaced halfway, or bad memory changed a number. A kernel takes the device for missing.
select
    chunk,
    number,
    devid,
    dev_uuid,
    coalesce('which has uuid ' || uuid, 'of which there is no item') as fault
from odd_dev_extents
where wrong_device
