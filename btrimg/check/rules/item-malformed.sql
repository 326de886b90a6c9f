-- severity: error
-- sentence: {fault}
-- progs: invalid item; bad file extent; the tree-checker's messages of an item's contents
-- explain: An item is too short for its type, ends inside a structure, lies outside its leaf or holds numbers that no
--   kernel writes. It is in none of the tables, so other rules may find that it is missing. Bad memory is the usual
--   cause, since the checksum of the block is right.
select fault from bad_items
