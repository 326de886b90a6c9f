-- severity: error
-- sentence: the superblock says that {bytes_used} bytes are used, the block groups say {used}
-- progs: super bytes used mismatches actual used; SUPER_BYTES_USED_ERROR
-- explain: The superblock keeps the sum of what is used in all block groups. Here it differs: a lost write, or bad
--   memory. Free space is shown wrong, and a kernel may run out of space early. `btrfs check --repair` corrects the
--   number.
select bytes_used, used
from odd_totals
where bytes_used <> used
