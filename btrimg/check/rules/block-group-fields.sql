-- severity: error
-- sentence: block group {logical}: {fault}
-- progs: invalid block group used; invalid block group chunk objectid; invalid block group size
-- explain: A block group cannot have more in use than it is long, and its chunk's objectid is always 256. Bad memory
--   changed a number. A kernel refuses to read the leaf that holds the item.
select logical, fault
from odd_groups
where fault is not null
