-- severity: error
-- sentence: [{logical}, {end}) in block group {block_group} is neither in use nor in the free space tree
-- progs: there is no free space entry; cache appears valid but isn't
-- explain: Space that no extent takes is not in the free space tree. It is never given out. Either the tree lost an
--   entry, or the extent tree lost an extent (another rule says so if something uses it). Mount with `-o
--   clear_cache,space_cache=v2` to have the tree made anew.
-- of: seams
select before_end as logical, seams.logical as end, groups.logical as block_group
from seams
join block_groups as groups on before_end >= groups.logical and seams.logical <= groups.logical + groups.length
where seams.logical > before_end
