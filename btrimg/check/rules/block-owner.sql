-- severity: error
-- sentence: tree block {logical} is owned by tree {owner}, which does not use it, but its extent item is without the
--   flag FULL_BACKREF
-- progs: owner ref check failed; bad full backref
-- explain: What a tree block refers to is recorded under the tree that owns it, as long as that tree still uses the
--   block. Once it does not, the flag FULL_BACKREF says that the records are under the block's own address. Here the
--   owner does not use the block any more and the flag is missing, so the records cannot be found when the block is
--   freed. `btrfs check --repair` corrects the flag.
select logical, owner
from unowned
where not exists (from bad_blocks)
