-- severity: error
-- sentence: item ({objectid} {kind} {offset}) in leaf {leaf} of tree {tree}: its key has {found}, where {expected} would be
--   the nearest that may be
-- progs: invalid key objectid; invalid key offset; invalid objectid; invalid tree level; invalid root id 0
-- explain: A number in an item's key is out of the range that its type allows: inodes are numbered from 256, checksums
--   and devices stand under a number of their own, an INODE_ITEM has the offset 0. Bad memory changed the key; what it
--   stood for is found missing elsewhere. The kernel refuses the whole leaf.
select leaf, tree, objectid, kind, bad_items.offset, found, expected from bad_items where fault = 'key'
