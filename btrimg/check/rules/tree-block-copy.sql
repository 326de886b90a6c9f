-- severity: error
-- sentence: {length} bytes of tree blocks at logical {logical}: mirror {mirror}, at {physical} of device {devid}, is not
--   what was written; good copies elsewhere: {intact}
-- progs: checksum verify failed; parent transid verify failed
-- needs: data
-- explain: A copy of a tree block has a bad checksum, or it is another block or an older version of it: a medium that
--   rots or lost a write, or a device that was away, make that. As long as another copy is good everything can be read,
--   but nothing is left to fall back on. Mount the filesystem and run `btrfs scrub`, which writes the good copy over the
--   bad one. Without a good copy see block-unreadable.
select devid, physical, length, logical, mirror, intact
from bad_copies where kind = 'tree block' and state = 'bad'
