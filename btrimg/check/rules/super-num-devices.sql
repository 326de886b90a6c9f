-- severity: error
-- sentence: the superblock counts {num_devices} devices, the chunk tree has items of {devices}
-- progs: super block num_devices mismatch; num_devices
-- explain: The superblock counts the devices of the filesystem. Here there are other than it says: the machine
--   stopped while a device was added or removed, or bad memory. Kernels since 5.17 correct the number at the next
--   commit, older ones do not mount. `btrfs check --repair` corrects it, too.
-- of: odd_totals
select num_devices, devices
from odd_totals
where num_devices <> devices
