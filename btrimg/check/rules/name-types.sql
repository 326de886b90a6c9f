-- severity: error
-- sentence: subvolume {subvolume}: name {name} in directory {parent} is of type {item_type} in its DIR_ITEM,
--   {index_type} in its DIR_INDEX
-- progs: filetype mismatch
-- explain: The two entries of a name disagree on the type of file that it leads to (1 regular, 2 directory, 3 and 4
--   devices, 5 fifo, 6 socket, 7 symlink). Bad memory does that. Programs that trust readdir's type may go wrong;
--   rename the file to have both written anew.
select subvolume, parent, name, item_type, index_type
from odd_links
where items = 1 and indexes = 1 and item_type <> index_type
