-- severity: error
-- sentence: the space cache of block group {block_group} says that [{logical}, {end}) is free, but extent {extent}
--   lies there
-- progs: cache appears valid but isn't; there is no free space entry; wanted offset
-- explain: The v1 space cache of a block group offers space that is in use, and a kernel would load it: its
--   generation and its checksums are right. The next write may go over what is there. Mount with `-o clear_cache`, or
--   run `btrfs check --clear-space-cache v1`, before anything else is written.
select
    block_group,
    greatest(logical, before) as logical,
    least(before_end, logical + length) as end,
    case kind when 3 then before else logical end as extent
from cache_seams
where logical < before_end
