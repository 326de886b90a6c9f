-- severity: error
-- sentence: {length} bytes of data at logical {logical}: mirror {mirror}, at {physical} of device {devid}, fails its
--   checksum; good copies elsewhere: {intact}
-- progs: mirror N bytenr N csum X expected csum X
-- needs: data
-- explain: Data on a device are not what was written: their checksum differs. A medium that rots or lost a write, a bad
--   cable or bad memory make that. Where there is another good copy, or RAID5/6 parity that brings the bytes back, the
--   kernel reads that instead, and `btrfs scrub` on the mounted filesystem writes it over the bad one. Where there is
--   none, the bytes are lost: `btrimg locate IMAGE --logical LOGICAL` names the files, to be restored from a backup.
--   Look at the device's own error log (smartctl) before you trust it again.
select devid, physical, length, logical, mirror, intact
from bad_copies where kind = 'data' and state = 'bad'
