-- severity: error
-- sentence: device extent [{physical}, +{length}) of device {devid} ends beyond its {total_bytes} bytes
-- progs: dev extent is beyond device boundary
-- explain: A device extent reaches past the end of the device. A device was shrunk by a kernel before 4.19, which did
--   not move all chunks, or bad memory changed a number. A kernel refuses to mount the filesystem. Enlarge the device
--   if there is room behind it.
select devid, physical, length, chunk, total_bytes
from odd_dev_extents
where beyond
