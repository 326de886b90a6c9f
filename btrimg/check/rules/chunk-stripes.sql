-- severity: error
-- sentence: chunk {logical} is {profile} of {num_stripes} stripes, {sub_stripes} together
-- progs: invalid num_stripes:sub_stripes; invalid chunk num_stripes
-- explain: The number of stripes of a chunk does not go with its profile. Bad memory changed it. A kernel refuses to
--   read the leaf of the chunk tree that holds the chunk.
select logical, profile, num_stripes, sub_stripes
from odd_chunks
where wrong_stripes
