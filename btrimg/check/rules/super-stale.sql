-- severity: warning
-- sentence: device {devid}: the superblock at {physical} is of generation {generation}, the filesystem of {last}
-- progs: none
-- explain: A copy of the superblock is not that of the last commit. The device was away for a while, or the machine
--   stopped while superblocks were written. A device that was away has old data, too: scrub it once it is back
--   (`btrfs scrub start`).
select devid, physical, mirror, generation, last
from odd_superblocks
where stale
