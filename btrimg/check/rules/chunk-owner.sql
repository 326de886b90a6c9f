-- severity: warning
-- sentence: chunk {logical} is owned by tree {owner}, not by the extent tree, 2
-- progs: none
-- explain: A chunk names the tree that uses it, which is always the extent tree. Bad memory changed it. Nobody looks
--   at the number.
select logical, owner
from odd_chunks
where owner <> 2
