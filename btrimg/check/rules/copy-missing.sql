-- severity: error
-- sentence: {length} bytes at {physical} of device {devid}, which is missing, are nowhere else: {kind}, logical {logical}
-- progs: failed to read; couldn't read
-- needs: data
-- explain: A device that is not there held the only good copy of data or of a tree block, and no parity brings it back.
--   If you have the device, give it too (-d). What lies on missing devices and is good elsewhere is not reported. If the
--   device is lost, so are these bytes: `btrimg locate IMAGE --logical LOGICAL` names the files, to be restored from a
--   backup.
select devid, physical, length, logical, kind
from bad_copies where state = 'missing' and intact = 0
