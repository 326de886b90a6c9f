-- severity: error
-- sentence: the item of {kind} extent {logical} has the flags {flags:#x}
-- progs: invalid extent flag; invalid key type for data backref; bad extent type
-- explain: The flags of an extent's item must say that it is data or a tree block, not both and not neither, and a
--   tree block where the key does; data cannot have backrefs of the full kind (0x100), and other bits are not known.
--   Bad memory sets such bits. A kernel refuses to read the leaf of the extent tree that holds the item.
select logical, kind, flags
from odd_extents
where wrong_flags
