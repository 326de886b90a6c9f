-- severity: error
-- sentence: block group {logical}: the free space tree has {form} in it, its head says {expected}
-- progs: none; unexpected key; incorrect extent count
-- explain: The free space of a block group stands as ranges or as bitmaps, not as both, and the head says which. Bad
--   memory changed the head or the key of an entry. A kernel then reads one of the forms only. Mount with `-o
--   clear_cache,space_cache=v2` to have the tree made anew.
select
    logical,
    case flags & 1 when 1 then 'ranges' else 'bitmaps' end as form,
    case flags & 1 when 1 then 'bitmaps' else 'ranges' end as expected
from odd_free_space
where of_other_form > 0
