-- severity: error
-- sentence: inode {objectid} in leaf {leaf} of tree {tree}: the hole at {offset} has the number {found} of an extent,
--   not {expected}
-- progs: bad file extent; invalid disk_num_bytes, offset, ram_bytes for file extent, should be aligned; csum missing
-- explain: A hole that has an item of its own has no extent, so that the extent is 0 bytes long, and what is skipped of
--   it, together with the hole, is within the length that the hole was made with; these are multiples of the sector
--   size. Bad memory changed a number. The kernel refuses the whole leaf when one is no such multiple, and else reads
--   zeros there. `btrfs check` counts the bytes of such an extent, or misses its checksums.
select leaf, tree, objectid, bad_items.offset, found, expected from bad_items where fault = 'hole'
