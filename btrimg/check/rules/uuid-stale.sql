-- severity: warning
-- sentence: the UUID tree says that {uuid} is subvolume {subvolume}, which has another UUID or is not there
-- progs: none
-- explain: The UUID tree finds subvolumes by their UUID, for btrfs send and receive. This entry leads to the wrong
--   one or to none, and receiving may go wrong. The kernel makes the tree anew when it is mounted with
--   rescan_uuid_tree. Nothing else is affected.
-- of: uuids
select uuids.uuid, subvolume
from uuids
left join subvolumes on subvolumes.id = subvolume
where uuids.uuid is distinct from case kind when 'subvolume' then subvolumes.uuid else received_uuid end
