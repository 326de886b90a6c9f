-- Names that cannot be so whatever they lead to; names of subvolumes, which are directories, are of type 2.
select subvolume, parent, inode, name, source, type, hash, expected_hash, name_length, location_type
from names
where hash <> expected_hash
    or name_length = 0
    or name_length > 255
    or source in ('dir_item', 'dir_index') and location_type not in (1, 132)
    or location_type = 132 and type <> 2
