-- severity: error
-- sentence: tree block {logical}: {flag_fault}
-- progs: bad full backref; owner ref check failed
-- explain: What a tree block refers to is recorded under the tree that owns it, as long as that tree still uses the
--   block, and under the block's own address (flag FULL_BACKREF of its extent item) once it does not. Here the flag
--   is set where it cannot be, or not set where it must be. When the block is changed or freed next, references are
--   taken from the wrong record. `btrfs check --repair` corrects the flag.
select logical, owner, flag_fault
from odd_blocks
where flag_fault is not null
