-- severity: error
-- sentence: chunk {logical} is for sectors of {sector_size} bytes, the filesystem has {sectorsize}
-- progs: invalid chunk sectorsize
-- explain: The sector size that a chunk was made for is not that of the filesystem. Bad memory changed it. A kernel
--   refuses to read the leaf of the chunk tree that holds the chunk.
select logical, sector_size, sectorsize
from odd_chunks
where sector_size <> sectorsize
