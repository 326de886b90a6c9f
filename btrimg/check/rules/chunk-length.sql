-- severity: error
-- sentence: chunk {logical} has {length} bytes in elements of {stripe_len}, which cannot be
-- progs: invalid chunk length; chunk length too large; invalid chunk stripe length; invalid chunk logical start and
--   length
-- explain: A chunk has no length, one that is no multiple of the sector size, or more than 256 TiB; or the elements
--   of its rows are not of 64 KiB. Bad memory changed a number. A kernel refuses to read the leaf of the chunk tree
--   that holds the chunk.
select logical, length, stripe_len
from odd_chunks
where wrong_length
