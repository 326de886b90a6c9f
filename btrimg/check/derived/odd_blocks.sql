-- Tree blocks whose extent items are not of the same transaction, or have the flag FULL_BACKREF where it cannot be, or
-- are without it where it must be.
select
    blocks.logical as logical,
    blocks.owner as owner,
    blocks.generation as generation,
    extents.generation as item_generation,
    case
        when extents.flags & 256 = 0 and blocks.flags & 2 = 0 then null
        when extents.flags & 256 = 0 then 'it was relocated, and its extent item is without the flag FULL_BACKREF'
        when blocks.owner < 256 and blocks.owner <> 5 then 'it is of no subvolume, and its extent item has the flag FULL_BACKREF'
        when blocks.flags & 2 = 0 and blocks.generation > roots.last_snapshot
            then 'it is newer than the last snapshot of its tree, and its extent item has the flag FULL_BACKREF'
    end as flag_fault
from tree_blocks as blocks
join extents on extents.logical = blocks.logical and extents.kind = 'tree block'
left join (
    select id, max(last_snapshot) as last_snapshot
    from roots
    where id = 5 or id between 256 and 281474976710655
    group by id
) as roots on roots.id = blocks.owner
where flag_fault is not null or blocks.generation <> extents.generation
