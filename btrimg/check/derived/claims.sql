-- Disputed references, with what the items of their extents say, and whether there are tree blocks that cannot be read.
select
    disputed.*,
    extents.logical is not null as has_item,
    extents.length as item_length,
    extents.kind as item_kind,
    extents.level as item_level,
    exists (from bad_blocks) as unread
from disputed
left join extents on extents.logical = extent
