-- severity: error
-- sentence: subvolume {subvolume}: name {name} in directory {parent} leads to a key of type {location_type}
-- progs: unknown location type; invalid location key type
-- explain: An entry of a directory leads to an inode (INODE_ITEM, 1) or to a subvolume (ROOT_ITEM, 132). Here bad
--   memory changed what it leads to. The name cannot be opened; remove it with `btrfs check --repair`.
select subvolume, parent, name, location_type
from wrong_names
where source in ('dir_item', 'dir_index') and location_type not in (1, 132)
