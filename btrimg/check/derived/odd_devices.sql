-- Devices whose numbers cannot be, or are not those of their extents and of what was opened for them.
select
    devices.*,
    coalesce(found, 0) as found,
    device_size,
    sectorsize,
    bytes_used <> coalesce(found, 0) and not exists (from unread_trees where tree in (1, 4)) as wrong_used,
    coalesce(device_size < total_bytes, false) as cut_short
from devices
cross join (select sectorsize from superblock)
left join (select devid, sum(length) as found from dev_extents group by devid) using (devid)
left join (select devid, any_value(device_size) as device_size from superblocks group by devid) using (devid)
where wrong_used or cut_short or bytes_used > total_bytes or devid <> key_devid or total_bytes % sectorsize > 0
