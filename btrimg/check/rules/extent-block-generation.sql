-- severity: error
-- sentence: tree block {logical} is of generation {generation}, its extent item of {item_generation}
-- progs: parent transid verify failed (lowmem mode)
-- explain: The item of a tree block's extent says that the block was written by another transaction than the block
--   itself does. One of the two is from a lost write, or bad memory changed it. A kernel does not notice, but its
--   scrub takes every copy of the block for bad. `btrfs check --repair` does not mend it; a balance of the metadata
--   (`btrfs balance start -m`) writes the block anew.
select logical, owner, generation, item_generation
from odd_blocks
where generation <> item_generation
