-- A name and what it leads to, in directories where something does not match: how many items of each kind say so, and
-- what they say. Location type 132 (ROOT_ITEM) is a subvolume. A directory that is being deleted may have lost some.
-- of: odd_directories
select
    subvolume,
    parent,
    inode,
    name,
    location_type = 132 as leads_to_subvolume,
    count(*) filter (source = 'dir_item') as items,
    count(*) filter (source = 'dir_index') as indexes,
    count(*) filter (source in ('inode_ref', 'inode_extref')) as refs,
    any_value(type) filter (source = 'dir_item') as item_type,
    any_value(type) filter (source = 'dir_index') as index_type,
    any_value(index) filter (source = 'dir_index') as entry_index,
    any_value(index) filter (source in ('inode_ref', 'inode_extref')) as ref_index
from names
semi join odd_directories using (subvolume, parent)
anti join orphans on tree = subvolume and objectid = parent
where parent <> inode or location_type <> 0
group by all
