-- severity: error
-- sentence: extent {extent}: the extent tree records a reference by {user}, which does not refer to it
-- progs: referencer count mismatch; backpointer mismatch; REFERENCER_MISSING
-- explain: The extent tree lists a user of an extent that is none. The extent is never freed, and resolving its
--   address leads nowhere. Where tree blocks cannot be read it is not known who uses what, and this rule finds
--   nothing. `btrfs check --repair` removes the record.
select extent, kind, root, parent, inode, "offset", user
from claims
where uses = 0 and has_item and not unread
