-- severity: error
-- sentence: stripe {number} of chunk {chunk}, at {physical} of device {devid}, has no device extent
-- progs: is not found in dev extent; did not find the related dev extent; BACKREF_MISSING
-- explain: A chunk lies on a device where no device extent says so, so that the space counts as free and another
--   chunk may be put there. A lost write or bad memory make that. A kernel refuses to mount the filesystem. Copy out
--   what can be read (btrimg export); `btrfs rescue chunk-recover` may help.
select chunk, number, devid, physical
from odd_dev_extents
where missing
