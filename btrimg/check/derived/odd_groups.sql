-- Block groups whose numbers cannot be, are not those of the extents in them, or that no chunk or free space tree has,
-- as far as these trees can be read.
select
    groups.logical as logical,
    groups.length as length,
    groups.used as used,
    coalesce(found, 0) as found,
    groups.used <> coalesce(found, 0) and not exists (from unread_trees where tree in (1, 2)) as wrong_used,
    case
        when groups.used > groups.length then groups.used || ' bytes are used of ' || groups.length
        when groups.length = 0 then 'it has no length'
        when chunk_objectid <> 256 then 'its chunk has objectid ' || chunk_objectid
    end as fault,
    chunks.logical is null and not exists (from unread_trees where tree = 3) as without_chunk,
    infos.logical is null and compat_ro_flags & 3 = 3 and not exists (from unread_trees where tree in (1, 10)) as without_info
from block_groups as groups
cross join superblock
left join group_usage on group_usage.logical = groups.logical
left join chunks on chunks.logical = groups.logical
left join free_space_infos as infos on infos.logical = groups.logical and infos.length = groups.length
where wrong_used or fault is not null or without_chunk or without_info
