-- severity: error
-- sentence: block group {logical}: {fault}
-- progs: invalid block group used; invalid block group chunk objectid; invalid block group size
-- explain: A block group cannot have more in use than it is long, and its chunk's objectid is always 256. Bad memory
--   changed a number. A kernel refuses to read the leaf that holds the item.
select
    logical,
    case
        when used > length then used || ' bytes are used of ' || length
        when length = 0 then 'it has no length'
        else 'its chunk has objectid ' || chunk_objectid
    end as fault
from block_groups
where used > length or length = 0 or chunk_objectid <> 256
