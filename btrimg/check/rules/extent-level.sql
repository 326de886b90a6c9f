-- severity: error
-- sentence: tree block {extent} is of level {level}, its extent item says {item_level}
-- progs: metadata level mismatch; tree block level mismatch; BACKREF_MISMATCH
-- explain: The extent tree notes the level of each tree block; here it is not that of the block. A kernel looks for
--   the item by the level and does not find it, so it cannot free or copy the block and stops writing. `btrfs check
--   --repair` makes the item anew.
select distinct extent, disputed.level as level, extents.level as item_level
from disputed
join extents on logical = extent
where uses > 0
    and disputed.kind in ('tree_block', 'shared_block')
    and extents.kind = 'tree block'
    and disputed.level <> extents.level
