-- severity: error
-- sentence: the free space tree says that [{logical}, {end}) is free, but extent {extent} lies there
-- progs: cache appears valid but isn't; space cache has wrong space; there is no free space entry
-- explain: The free space tree offers space that is in use: the next write may go over it. An old kernel that did not
--   know the tree wrote to the filesystem, or bad memory changed an item. Mount with `-o clear_cache,space_cache=v2`,
--   or run `btrfs check --clear-space-cache v2`, to have the tree made anew, before anything else is written.
select
    greatest(logical, before) as logical,
    least(before_end, logical + length) as end,
    case kind when 3 then before else logical end as extent
from seams
where logical < before_end and (kind = 3) <> (before_kind = 3)
