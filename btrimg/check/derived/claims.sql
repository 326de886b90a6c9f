-- Disputed references, with what the items of their extents say, and whether there are tree blocks, and such
-- of the extent tree, that cannot be read.
-- of: disputed
select
    disputed.*,
    extents.logical is not null as has_item,
    extents.length as item_length,
    extents.kind as item_kind,
    extents.level as item_level,
    exists (from bad_blocks) as unread,
    exists (from unread_trees where tree in (1, 2)) as items_unread
from disputed
left join extents on extents.logical = extent
