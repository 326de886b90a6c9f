-- Entries of a valid free space tree that are neither within a block group nor within what the tree has a head for.
-- of: free_space
select free.logical as logical, free.length as length
from (from free_space where source <> 'cache') as free
cross join superblock
asof left join block_groups as groups on free.logical >= groups.logical
asof left join free_space_infos as infos on free.logical >= infos.logical
where compat_ro_flags & 3 = 3
    and not exists (from unread_trees where tree in (1, 2, 10, 11))
    and (groups.logical is null or free.logical + free.length > groups.logical + groups.length)
    -- Heads may be of any length: their ends could overflow.
    and (infos.logical is null or free.logical - infos.logical + free.length > infos.length)
