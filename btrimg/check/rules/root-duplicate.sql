-- severity: error
-- sentence: tree {id} has {items} ROOT_ITEMs
-- progs: none
-- explain: A tree has one root item, but for those that a balance is copying. The kernel takes the last, other tools
--   may take another. Bad memory changed a key. Read what the tree holds by each, and compare.
select id, count(*) as items
from roots
where id <> 18446744073709551608 -- TREE_RELOC, which has one for each tree that is copied
group by all
having count(*) > 1
