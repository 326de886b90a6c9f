-- severity: error
-- sentence: the entry "default" of the root tree leads to tree {id}, which is no subvolume that can be mounted
-- progs: none
-- explain: What is mounted when no subvolume is named stands as the name "default" in the root tree. It leads to
--   something that is not there or is being deleted, so mounting fails. Bad memory or a lost write leave that. Mount
--   with subvolid=5 and set the default anew (btrfs subvolume set-default).
select root_entries.id
from root_entries
left join roots on roots.id = root_entries.id
where name = 'default'
    and (
        location_type <> 132
        or coalesce(refs, 0) = 0
        or root_entries.id <> 5 and root_entries.id not between 256 and 281474976710655
    )
