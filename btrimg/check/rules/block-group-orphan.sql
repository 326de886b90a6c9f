-- severity: error
-- sentence: block group {logical} of {length} bytes has no chunk
-- progs: didn't find the relative chunk; did not find the related chunk item; REFERENCER_MISSING
-- explain: An item accounts for a range of logical addresses that is in no chunk. A lost write of a leaf of the chunk
--   tree or bad memory make that. A kernel refuses to mount the filesystem. If the chunk is lost `btrfs rescue
--   chunk-recover` may find it again by a scan of the devices.
select logical, length
from odd_groups
where without_chunk
