-- severity: error
-- sentence: extent {extent}: a reference by {user} is recorded, but the extent has no item
-- progs: no extent item; backref with no extent; ref mismatch, extent item 0
-- explain: A record of a user stands in the extent tree apart from the item of the extent that it belongs to, which
--   is not there. An item was lost, or the record was left behind when it was deleted. `btrfs check --repair` removes
--   the record or makes the item anew.
select extent, kind, root, parent, inode, "offset", user
from claims
where recorded > 0 and not has_item and not items_unread
