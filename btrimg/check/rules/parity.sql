-- severity: error
-- sentence: {length} bytes of {kind} at {physical} of device {devid}, of the row at logical {logical}, do not add up with
--   the data{doubt}
-- progs: none
-- needs: data
-- explain: Parity of RAID5 or RAID6 is not what the data of its row make it: should a device fail, the bytes that it
--   would bring back were wrong. A crash while the row was written (the write hole), a device that was away, or a medium
--   that rots make that. Data with checksums in the row are good, or are reported by themselves; where the row holds data
--   without checksums these may be what is wrong. `btrfs scrub` on the mounted filesystem writes parity anew from the
--   data.
select
    devid, physical, length, logical, kind,
    case state when 'differs' then '; or data without checksums in that row are wrong' else '' end as doubt
from bad_copies where kind in ('parity P', 'parity Q') and state in ('bad', 'differs')
