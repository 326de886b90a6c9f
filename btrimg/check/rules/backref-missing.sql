-- severity: error
-- sentence: extent {extent}: {user} uses it, but the extent tree has no record of that
-- progs: backref lost; backpointer mismatch; BACKREF_MISSING
-- explain: The item of an extent does not list one of its users. When the other users are gone the extent is freed
--   under the feet of this one. Bad memory or a lost write of a leaf of the extent tree make that. Copy out the data
--   (btrimg export); `btrfs check --repair` adds the record.
select extent, kind, root, parent, inode, "offset", user
from claims
where uses > 0 and recorded = 0 and has_item and not items_unread
