-- severity: error
-- sentence: tree block {logical} has an extent of {length} bytes, a node has {nodesize}
-- progs: ignore invalid metadata extent; invalid extent length; ITEM_SIZE_MISMATCH
-- explain: The extent item of a tree block must be as long as a node. Bad memory or a wrong item make it differ. A
--   kernel refuses to read the leaf of the extent tree that holds the item. `btrfs check --repair` makes the item
--   anew.
select logical, length, nodesize
from odd_extents
where wrong_length
