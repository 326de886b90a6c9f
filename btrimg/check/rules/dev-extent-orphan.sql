-- severity: error
-- sentence: device extent at {physical} of device {devid} is not of chunk {chunk}, as it says
-- progs: Device extent didn't find the relative chunk; REFERENCER_MISSING
-- explain: A device extent names a chunk that has no stripe there. A kernel that stopped while it removed a chunk may
--   leave it. The space is lost, and kernels refuse to mount the filesystem since 4.19. `btrfs check --repair`
--   removes it.
select devid, physical, length, chunk
from odd_dev_extents
where orphan
