-- severity: warning
-- sentence: device {devid}: the superblock at {physical} says {item_fault}
-- progs: device's total_bytes was in tree but in superblock; device's bytes_used was in tree but in superblock
-- explain: Each superblock has a copy of its device's item in the chunk tree. Here the two differ. Kernels before
--   5.16 left that now and then after chunks came or went; the next commit of the device sets it right. It does no
--   harm.
select devid, physical, mirror, item_fault
from odd_superblocks
where item_fault is not null
