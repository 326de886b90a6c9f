-- severity: error
-- sentence: device {devid} has {bytes_used} bytes in use of {total_bytes}
-- progs: incorrect used bytes > total bytes; invalid bytes used
-- explain: The item of a device says that more of it is in use than there is. Bad memory or a wrong item make that. A
--   kernel refuses to read the leaf of the chunk tree that holds the item.
select devid, bytes_used, total_bytes
from odd_devices
where bytes_used > total_bytes
