-- severity: error
-- sentence: device {devid} has {bytes_used} bytes in use by its item, its extents have {found}
-- progs: Dev extent's total-byte is not equal to byte-used; Device used bytes mismatch; ACCOUNTING_MISMATCH
-- explain: The item of a device keeps the sum of the lengths of all device extents on it. Here it differs: a lost
--   write or bad memory. New chunks may then not be allocated although there is room. `btrfs check --repair` corrects
--   the number.
select devid, bytes_used, found
from odd_devices
where wrong_used
