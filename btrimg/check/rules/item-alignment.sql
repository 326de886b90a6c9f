-- severity: error
-- sentence: item ({objectid} {kind} {offset}) in leaf {leaf} of tree {tree}: {found} in its key is no multiple of the
--   sector size
-- progs: unaligned file_offset for file extent; unaligned key offset for csum item; invalid key objectid, expect to be
--   aligned; invalid extent length; tree block bytenr is not aligned to sectorsize
-- explain: An address or a length in an item's key is no multiple of the sector size, in which space and data are
--   counted. Bad memory changed the key; what it stood for is found missing elsewhere. The kernel refuses the whole leaf.
select leaf, tree, objectid, kind, bad_items.offset, found from bad_items where fault = 'alignment'
