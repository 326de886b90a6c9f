-- severity: error
-- sentence: the free space tree has [{logical}, {end}), which is not within a block group
-- progs: no block group; free space tree entry is not covered by any block group
-- explain: An entry of the free space tree is in no block group that it has a head for, or goes beyond one. Bad
--   memory changed a key. Mount with `-o clear_cache,space_cache=v2` to have the tree made anew.
select logical, logical + length as end
from stray_free_space
