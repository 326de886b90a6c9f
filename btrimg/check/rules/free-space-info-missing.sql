-- severity: error
-- sentence: block group {logical} of {length} bytes is not in the free space tree
-- progs: missing free space info; there is no free space entry
-- explain: The free space tree has a head for every block group. Here it lacks one, or has it for another length. A
--   kernel that wants to give out space in the block group cannot, and stops writing. Mount with `-o
--   clear_cache,space_cache=v2` to have the tree made anew.
select logical, length
from odd_groups
where without_info
