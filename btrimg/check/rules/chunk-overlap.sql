-- severity: error
-- sentence: chunk {logical} begins before chunk {before} ends, at {before_end}
-- progs: Chunk existed; existing map
-- explain: Two chunks claim the same logical addresses, so that it is open where what has such an address lies. Bad
--   memory changed a number. A kernel refuses to mount the filesystem.
select logical, before, before_end
from odd_chunks
where overlapping
