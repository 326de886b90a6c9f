-- severity: error
-- sentence: the superblock says that the free space tree is valid, but {space_fault}
-- progs: none; free space tree invalid
-- explain: The feature bits of the superblock and the trees contradict each other: there is a valid free space tree,
--   but no such tree, or the feature is not on. A tool changed the bits, or bad memory did. A kernel makes the tree
--   anew with `-o clear_cache,space_cache=v2`.
select space_fault
from odd_totals
where space_fault is not null
