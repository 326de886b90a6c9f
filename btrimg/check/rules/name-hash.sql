-- severity: error
-- sentence: subvolume {subvolume}: name {name} in directory {parent} has the hash {expected_hash:#x}, its {item} is
--   at {hash:#x}
-- progs: mismatched name hash; DIR_ITEM hash mismatch
-- explain: The key of a DIR_ITEM is the CRC-32C of the name in it, that of an INODE_EXTREF the same seeded with the
--   directory. Here the name was changed and the key was not, or the other way round, as bad memory does. The name is
--   listed, but looking it up fails. `btrfs check --repair` removes the entry; the file can be copied out by inode
--   number before.
select subvolume, parent, name, upper(source) as item, hash, expected_hash
from wrong_names
where hash <> expected_hash
