-- severity: error
-- sentence: the free space tree has [{logical}, {end}), which is not within a block group
-- progs: no block group; free space tree entry is not covered by any block group
-- explain: An entry of the free space tree is in no block group that it has a head for, or goes beyond one. Bad
--   memory changed a key. Mount with `-o clear_cache,space_cache=v2` to have the tree made anew.
select free.logical as logical, free.logical + free.length as end
from (from free_space where source <> 'cache') as free
asof left join block_groups as groups on free.logical >= groups.logical
asof left join free_space_infos as infos on free.logical >= infos.logical
semi join superblock on compat_ro_flags & 3 = 3
where (groups.logical is null or free.logical + free.length > groups.logical + groups.length)
    and (infos.logical is null or free.logical + free.length > infos.logical + infos.length)
