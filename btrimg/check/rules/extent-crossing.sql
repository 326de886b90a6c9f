-- severity: error
-- sentence: tree block {logical} crosses the boundary of a stripe at a multiple of 64 KiB
-- progs: bad metadata crossing stripe boundary; CROSSING_STRIPE
-- explain: A tree block must lie within 64 KiB of its block group, or the kernel's scrub cannot check it and a
--   machine with larger pages cannot read it. btrfs-convert before version 4.4 placed blocks so. A balance of the
--   metadata (`btrfs balance start -m`) moves them.
select logical
from odd_extents
where crosses
