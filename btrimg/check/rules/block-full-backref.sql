-- severity: error
-- sentence: tree block {logical}: {fault}
-- progs: bad full backref; owner ref check failed
-- explain: What a tree block refers to is recorded under the tree that owns it, as long as that tree still uses the
--   block, and under the block's own address (flag FULL_BACKREF of its extent item) once it does not. Here the flag
--   is set where it cannot be, or not set where it must be. When the block is changed or freed next, references are
--   taken from the wrong record. `btrfs check --repair` corrects the flag.
select
    blocks.logical as logical,
    blocks.owner as owner,
    case
        when extents.flags & 256 = 0 then 'it was relocated, and its extent item is without the flag FULL_BACKREF'
        when roots.id is null then 'it is of no subvolume, and its extent item has the flag FULL_BACKREF'
        else 'it is newer than the last snapshot of its tree, and its extent item has the flag FULL_BACKREF'
    end as fault
from tree_blocks as blocks
join extents on extents.logical = blocks.logical and extents.kind = 'tree block'
left join (
    select id, max(last_snapshot) as last_snapshot from roots where id = 5 or id between 256 and 281474976710655 group by id
) as roots on roots.id = blocks.owner
where case
    when extents.flags & 256 = 0 then blocks.flags & 2 > 0
    when blocks.owner < 256 and blocks.owner <> 5 then true
    else blocks.flags & 2 = 0 and blocks.generation > roots.last_snapshot
end
