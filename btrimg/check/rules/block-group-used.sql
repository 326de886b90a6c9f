-- severity: error
-- sentence: block group {logical} has {used} bytes in use, the extents in it have {found}
-- progs: block group used but extent items used; BG_ACCOUNTING_ERROR
-- explain: A block group keeps the sum of the lengths of its extents. Here it differs: a lost write or bad memory.
--   Space is shown wrong, and a kernel may delete a block group that it takes for empty. `btrfs check --repair`
--   corrects the number.
select logical, used, found
from odd_groups
where wrong_used
