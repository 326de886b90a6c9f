-- severity: error
-- sentence: the superblock says that the free space tree is valid, but {fault}
-- progs: none; free space tree invalid
-- explain: The feature bits of the superblock and the trees contradict each other: there is a valid free space tree,
--   but no such tree, or the feature is not on. A tool changed the bits, or bad memory did. A kernel makes the tree
--   anew with `-o clear_cache,space_cache=v2`.
select case when compat_ro_flags & 1 = 0 then 'not that there is one' else 'there is none' end as fault
from superblock
where compat_ro_flags & 3 = 2 or compat_ro_flags & 3 = 3 and not exists (from roots where id = 10)
