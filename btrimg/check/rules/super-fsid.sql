-- severity: warning
-- sentence: device {devid}: the superblock at {physical} says that its filesystem is about to get another uuid
-- progs: none; unfinished fsid change
-- explain: The uuid of the filesystem was being changed (btrfstune -m) and not all devices were done. A kernel finds
--   out which uuid counts and ends the change at the next mount, if all devices are there.
select devid, physical, mirror
from odd_superblocks
where getting_fsid
