-- severity: error
-- sentence: chunk {logical} of {length} bytes has no block group
-- progs: is not found in block group; chunk doesn't have related block group item
-- explain: A chunk must have an item that accounts for it, a block group. A lost write or bad memory make that it
--   lacks. A kernel refuses to mount the filesystem. `btrfs check --repair` makes the item anew.
select logical, length
from odd_chunks
where without_group
