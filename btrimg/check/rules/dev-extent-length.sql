-- severity: error
-- sentence: device extent at {physical} of device {devid} has {length} bytes, chunk {chunk} takes {expected}
-- progs: mismatch dev extent; did not find the related dev extent
-- explain: A device extent does not have the length that a stripe of its chunk has: the chunk's length divided by its
--   columns of data. Bad memory changed one of the two. A kernel refuses to mount the filesystem.
select devid, physical, dev_extents.length as length, chunk, chunks.length // greatest(1, case profile
    when 'raid0' then num_stripes
    when 'raid10' then num_stripes // 2
    when 'raid5' then num_stripes - 1
    when 'raid6' then num_stripes - 2
    else 1
end) as expected
from dev_extents
join stripes using (devid, physical, chunk)
join chunks on chunks.logical = chunk
where profile <> '' and dev_extents.length <> expected
