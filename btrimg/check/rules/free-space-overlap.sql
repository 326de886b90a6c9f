-- severity: error
-- sentence: the free space tree has a range at {logical} that begins before the one at {before} ends, at {before_end}
-- progs: Duplicate entries in free space cache; cache appears valid but isn't
-- explain: Two entries of the free space tree share space, so that it may be given out twice. Bad memory changed a
--   key. Mount with `-o clear_cache,space_cache=v2` to have the tree made anew.
select logical, before, before_end
from seams
where logical < before_end and kind = 3 and before_kind = 3
