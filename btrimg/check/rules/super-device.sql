-- severity: error
-- sentence: device {devid}: the superblock at {physical} says {identity_fault}
-- progs: dev_item UUID does not match fsid; device is missing
-- explain: Each superblock says which device it is of: its number, its uuid, and the filesystem that it was made for.
--   The item of the device in the chunk tree says something else. A program that edits superblocks, or bad memory,
--   makes that. A kernel does not mount the filesystem: it takes the device for another one, or the filesystem for
--   one that grew out of a seed that is not there.
select devid, physical, mirror, identity_fault
from odd_superblocks
where identity_fault is not null
