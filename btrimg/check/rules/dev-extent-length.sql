-- severity: error
-- sentence: device extent at {physical} of device {devid} has {length} bytes, chunk {chunk} takes {expected}
-- progs: mismatch dev extent; did not find the related dev extent
-- explain: A device extent does not have the length that a stripe of its chunk has: the chunk's length divided by its
--   columns of data. Bad memory changed one of the two. A kernel refuses to mount the filesystem.
select devid, physical, length, chunk, expected
from odd_dev_extents
where wrong_length
