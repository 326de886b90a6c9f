-- severity: error
-- sentence: device {devid}: the superblock at {physical} is not as that at 65536 in: {differs}
-- progs: none
-- explain: All superblocks of a device that are of one commit are the same. Here a copy differs although its checksum
--   is right: somebody edited one of them. `btrfs rescue super-recover` looks at generations only; see which copy is
--   right (`btrimg inspect dump-super -a`) and mount, which writes all of them anew from the first.
select devid, physical, mirror, differs
from odd_superblocks
where differs <> ''
