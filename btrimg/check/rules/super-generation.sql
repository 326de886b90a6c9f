-- severity: warning
-- sentence: device {devid}: the superblock at {physical} has {field} {found}, but {expected}
-- progs: none; cache and super generation don't match
-- explain: The superblock says that the chunk tree, or the v1 space cache, was written by a transaction that is still
--   to come. Bad memory or a tool made that. A kernel complains; it does not use the cache. The next commit sets it
--   right.
select devid, physical, mirror, field, found, expected
from superblock_fields
where not refused
