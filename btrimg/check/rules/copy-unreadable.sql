-- severity: error
-- sentence: {length} bytes at {physical} of device {devid} cannot be read: {kind}, logical {logical}, mirror {mirror};
--   good copies elsewhere: {intact}
-- progs: failed to read; couldn't read
-- needs: data
-- explain: The device gives an error, or ends, where a copy of data or of a tree block should be. An image file that was
--   cut short or a failing disk make that. Compare the size of the file with that of the device that it was taken from,
--   or copy what can be read to a new device (ddrescue). Where there are good copies elsewhere, `btrfs replace` takes the
--   bytes from there.
select devid, physical, length, logical, kind, mirror, intact
from bad_copies where state = 'unreadable'
