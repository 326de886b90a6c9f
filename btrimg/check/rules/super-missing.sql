-- severity: warning
-- sentence: device {devid}: there is no superblock at {physical}
-- progs: none
-- explain: One of the places for a superblock, at 64 KiB, 64 MiB and 256 GiB of each device, has none. Something
--   wrote over it, or the image was made by a program that writes the first one only. (btrfs-image does; its images
--   are left out.) The next commit of a mounted filesystem writes it anew.
select devid, physical, mirror
from odd_superblocks
where missing
