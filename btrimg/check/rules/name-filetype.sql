-- severity: error
-- sentence: subvolume {subvolume}: name {name} in directory {parent} says that inode {inode} is of type {type}, but
--   its mode is {mode:#o}
-- progs: filetype mismatch; INODE_ITEM mismatch
-- explain: The type in a directory entry (1 regular, 2 directory, 3 and 4 devices, 5 fifo, 6 socket, 7 symlink; a
--   subvolume is a directory) is not that of the inode's mode. Programs that trust readdir's type go wrong, and the
--   kernel may refuse the file. Bad memory changed one of them; which, the contents tell. `btrfs check --repair`
--   rewrites the entry.
-- of: odd_names, wrong_names
select subvolume, parent, name, inode, type, mode
from odd_names
join linked_inodes using (subvolume, inode)
where source in ('dir_item', 'dir_index')
    and mode >> 12 <> case type
        when 1 then 8 when 2 then 4 when 3 then 2 when 4 then 6 when 5 then 1 when 6 then 12 when 7 then 10 else 0
    end
union
select subvolume, parent, name, inode, type, 16384 as mode
from wrong_names
where location_type = 132 and type <> 2
