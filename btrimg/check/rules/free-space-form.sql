-- severity: error
-- sentence: block group {logical}: the free space tree has {form} in it, its head says {expected}
-- progs: none; unexpected key; incorrect extent count
-- explain: The free space of a block group stands as ranges or as bitmaps, not as both, and the head says which. Bad
--   memory changed the head or the key of an entry. A kernel then reads one of the forms only. Mount with `-o
--   clear_cache,space_cache=v2` to have the tree made anew.
select distinct
    infos.logical as logical,
    case source when 'bitmap' then 'bitmaps' else 'ranges' end as form,
    case infos.flags & 1 when 1 then 'bitmaps' else 'ranges' end as expected
from (from free_space where source <> 'cache') as free
asof join free_space_infos as infos on free.logical >= infos.logical
semi join superblock on compat_ro_flags & 3 = 3
where (source = 'bitmap') <> (infos.flags & 1 = 1) and free.logical < infos.logical + infos.length
