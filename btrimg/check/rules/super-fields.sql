-- severity: error
-- sentence: device {devid}: the superblock at {physical} has {field} {found}, which cannot be: {expected}
-- progs: superblock checksum matches but it has invalid members; invalid stripesize; invalid bytes_used; invalid
--   total_bytes
-- explain: A number of the superblock contradicts others. Its checksum is right, so bad memory or a tool wrote it so.
--   A kernel refuses to mount the filesystem. Where another copy has the right number `btrfs rescue super-recover`
--   helps.
select devid, physical, mirror, field, found, expected
from superblock_fields
where refused
