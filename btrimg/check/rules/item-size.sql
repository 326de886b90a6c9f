-- severity: error
-- sentence: item ({objectid} {kind} {offset}) in leaf {leaf} of tree {tree} has {found} bytes, not {expected}
-- progs: invalid item size; unaligned item size; invalid chunk item size; invalid root item size
-- explain: An item is shorter, longer or ends elsewhere than items of its type do; {expected} is the nearest size that
--   would do. Bad memory changed the size in the slot, or a record was overwritten by one of another type. The kernel
--   refuses the whole leaf. Copy out what can be read (btrimg export) and restore the rest from a backup.
select leaf, tree, objectid, kind, bad_items.offset, found, expected from bad_items where fault = 'size'
