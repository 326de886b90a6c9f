-- severity: error
-- sentence: extent {extent} of {length} bytes is in use by {user}, but it has no item in the extent tree
-- progs: backref lost; ref mismatch, extent item 0; BACKREF_MISSING
-- explain: Something refers to an extent that the extent tree does not know. The space counts as free, so the next
--   write may overwrite what is there: mount nothing for writing. A lost write of a leaf of the extent tree, or bad
--   memory, are the usual causes. Copy out the data (btrimg export), then let `btrfs check --repair` or
--   `--init-extent-tree` make the item anew.
select extent, length, min(user) as user, count(*) as users
from claims
where uses > 0 and not has_item and not items_unread
group by extent, length
