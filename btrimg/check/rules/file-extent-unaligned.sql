-- severity: error
-- sentence: inode {inode} of subvolume {subvolume}: its file extent at {offset} has the {field} {value}, no multiple of
--   {sectorsize}
-- progs: invalid disk_bytenr, num_bytes, ram_bytes for file extent, should be aligned; unaligned disk bytenr; bad file
--   extent
-- explain: Addresses and lengths of a file extent that is not inline are multiples of the sector size, in which data is
--   stored and has checksums. Bad memory changed the number. The kernel refuses the whole leaf. Copy out what can be
--   read (btrimg export), and write the file anew.
with odd as (from odd_file_extents where unaligned)
select subvolume, inode, fields.offset, field, value, sectorsize
from (unpivot odd on extent, extent_length, extent_offset, length, ram_bytes into name field value value) as fields
where value % sectorsize <> 0
