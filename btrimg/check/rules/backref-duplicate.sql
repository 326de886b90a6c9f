-- severity: error
-- sentence: extent {extent}: the reference by {user} is recorded {records} times instead of once, with a count
-- progs: extent back ref already exists
-- explain: Two records, inside the extent's item or behind it, name the same user of an extent. A kernel finds the
--   first one only, so that the extent cannot be freed. `btrfs check --repair` writes the records of the extent anew.
select extent, kind, root, parent, inode, "offset", user, records
from claims
where records > 1
