-- severity: error
-- sentence: tree block {extent} is of level {level}, its extent item says {item_level}
-- progs: metadata level mismatch; tree block level mismatch; BACKREF_MISMATCH
-- explain: The extent tree notes the level of each tree block; here it is not that of the block. A kernel looks for
--   the item by the level and does not find it, so it cannot free or copy the block and stops writing. `btrfs check
--   --repair` makes the item anew.
select distinct extent, level, item_level
from claims
where uses > 0 and kind in ('tree_block', 'shared_block') and item_kind = 'tree block' and level <> item_level
