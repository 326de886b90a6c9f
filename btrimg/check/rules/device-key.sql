-- severity: error
-- sentence: the item of device {devid} stands under devid {key_devid}
-- progs: devid mismatch: key has, item has
-- explain: The item of a device says another id than its key. Bad memory changed one of the two. A kernel refuses to
--   read the leaf of the chunk tree that holds the item.
select devid, key_devid
from odd_devices
where devid <> key_devid
