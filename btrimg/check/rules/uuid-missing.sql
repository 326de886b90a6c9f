-- severity: warning
-- sentence: subvolume {id} has the UUID {uuid}, which the UUID tree does not know
-- progs: none
-- explain: The UUID tree finds subvolumes by their UUID, for btrfs send and receive. An entry is missing: receiving a
--   difference to this subvolume fails to find it. The kernel makes the tree anew when it is mounted with
--   rescan_uuid_tree. Nothing else is affected.
select id, uuid
from subvolumes
semi join roots on roots.id = subvolumes.id and refs > 0
anti join uuids on uuids.subvolume = subvolumes.id and uuids.uuid = subvolumes.uuid and kind = 'subvolume'
where uuid <> '00000000-0000-0000-0000-000000000000' and exists (from uuids)
