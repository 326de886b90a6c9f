-- severity: error
-- sentence: chunk {logical} is {profile} of {num_stripes} stripes, {sub_stripes} together
-- progs: invalid num_stripes:sub_stripes; invalid chunk num_stripes
-- explain: The number of stripes of a chunk does not go with its profile. Bad memory changed it. A kernel refuses to
--   read the leaf of the chunk tree that holds the chunk.
select logical, profile, num_stripes, sub_stripes
from chunks
where not case profile
    when 'raid0' then num_stripes >= 1
    when 'raid10' then num_stripes >= 2 and num_stripes % 2 = 0 and sub_stripes = 2
    when 'raid5' then num_stripes >= 2
    when 'raid6' then num_stripes >= 3
    when 'raid1' then num_stripes = 2
    when 'dup' then num_stripes = 2
    when 'raid1c3' then num_stripes = 3
    when 'raid1c4' then num_stripes = 4
    when 'single' then num_stripes = 1
    else num_stripes >= 1
end
