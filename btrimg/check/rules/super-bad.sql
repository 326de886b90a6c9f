-- severity: error
-- sentence: device {devid}: the superblock at {physical} is bad: {fault}
-- progs: superblock checksum mismatch; superblock checksum matches but it has invalid members
-- explain: A copy of the superblock has a wrong checksum or holds what cannot be. A medium that lost a write, or a
--   program that wrote over it, make that. As long as another copy is sound nothing is lost: `btrfs rescue
--   super-recover` writes it anew, and so does every commit of a mounted filesystem.
select devid, physical, mirror, fault
from odd_superblocks
where state = 'bad'
