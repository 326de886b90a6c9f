-- severity: error
-- sentence: device extent at {physical} of device {devid} begins before the one at {before} ends, at {before_end}
-- progs: dev extent overlap with previous dev extent
-- explain: Two device extents share space, so that two chunks write over each other. Bad memory changed a number, or
--   a tool went wrong. A kernel refuses to read the leaf of the device tree. Copy out what can be read (btrimg
--   export), at once.
select devid, physical, before, before_end
from odd_dev_extents
where overlapping
