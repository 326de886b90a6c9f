-- severity: error
-- sentence: block group {logical}: the free space tree counts {extent_count} free ranges, it has {found}
-- progs: free space info recorded extents, counted
-- explain: The head of a block group in the free space tree counts its free ranges. Here it is wrong: bad memory, or
--   a lost write. A kernel notices, loads the space from the extent tree, and complains. Mount with `-o
--   clear_cache,space_cache=v2` to have the tree made anew.
select logical, extent_count, found
from odd_free_space
where extent_count <> found and not without_group
