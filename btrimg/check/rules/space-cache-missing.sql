-- severity: error
-- sentence: [{logical}, {end}) in block group {block_group} is neither in use nor in the space cache
-- progs: there is no free space entry; wanted bytes; cache appears valid but isn't
-- explain: Space that no extent takes is not in the v1 space cache of its block group. A kernel that loads the cache
--   does not give it out. Either the cache is wrong, or the extent tree lost an extent (another rule says so if
--   something uses it). Mount with `-o clear_cache` to have the cache made anew.
select block_group, before_end as logical, logical as end
from cache_seams
where logical > before_end
