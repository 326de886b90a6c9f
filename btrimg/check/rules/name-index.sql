-- severity: error
-- sentence: subvolume {subvolume}: name {name} in directory {parent} has index {entry_index}, but {ref_index} in the
--   reference of inode {inode}
-- progs: index mismatch
-- explain: The place of a name in its directory's order (offset of the DIR_INDEX) is not what the inode's reference
--   says, by which unlinking finds it: unlinking fails. An interrupted replay of a log, a lost write or bad memory
--   leaves that; kernels before 5.x had bugs that did, too. Move what can be read elsewhere; `btrfs check --repair`
--   rewrites the entry.
select subvolume, parent, name, inode, entry_index, ref_index
from odd_links
where indexes = 1 and refs = 1 and entry_index <> ref_index
