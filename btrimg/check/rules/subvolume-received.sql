-- severity: warning
-- sentence: subvolume {id} ({path}) was received, but may be written to
-- progs: none
-- explain: A subvolume that btrfs receive made says from what (its received UUID), so that later differences are
--   applied to it. It was made writable by force since then; if it was changed, applying a difference to it goes wrong
--   without a word. Set it read-only again only if nothing was changed; else take a snapshot of it, which does not keep
--   the received UUID, and work on that.
select id, path
from subvolumes
where not read_only and received_uuid <> '00000000-0000-0000-0000-000000000000'
