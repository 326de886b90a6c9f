-- severity: error
-- sentence: subvolume {subvolume} hangs in subvolume {parent} as {name}, but directory {dirid} there has {items}
--   DIR_ITEM and {indexes} DIR_INDEX of it with index {sequence}
-- progs: no dir item; no dir index; index mismatch
-- explain: A subvolume's ROOT_REF names an entry of a directory that does not lead to the subvolume. It cannot be
--   reached by that path, or its name cannot be removed. A lost write or bad memory leave that. Mount it by its id
--   (subvolid=) to read it; a snapshot of it gets an entry of its own.
-- of: root_refs
with found as (
    select
        root_refs.subvolume,
        root_refs.parent,
        dirid,
        sequence,
        root_refs.name,
        count(*) filter (names.source = 'dir_item') as items,
        count(*) filter (names.source = 'dir_index' and index = sequence) as indexes
    from root_refs
    left join names
        on names.subvolume = root_refs.parent
        and names.parent = dirid
        and location_type = 132
        and inode = root_refs.subvolume
        and names.name = name_number
    where root_refs.source = 'root_ref'
    group by all
)
select * from found where items = 0 or indexes = 0
