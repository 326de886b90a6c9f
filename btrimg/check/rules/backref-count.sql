-- severity: error
-- sentence: extent {extent}: {user} uses it {uses} times, the extent tree has recorded {recorded}
-- progs: referencer count mismatch; backpointer mismatch; REFERENCER_MISMATCH
-- explain: The count in a record of an extent's users is not how often this user refers to the extent. Too low a
--   count frees the extent while it is still in use. Bad memory is the usual cause. Where tree blocks cannot be read
--   it is not known who uses what, and this rule finds nothing. `btrfs check --repair` corrects the count.
select extent, kind, root, parent, inode, "offset", user, uses, recorded
from claims
where uses > 0 and recorded > 0 and uses <> recorded and not unread
