-- severity: error
-- sentence: inode {inode} of subvolume {subvolume}: its file extent at {offset} has the {field} {value}, no multiple of
--   {sectorsize}
-- progs: invalid disk_bytenr, num_bytes, ram_bytes for file extent, should be aligned; unaligned disk bytenr; bad file
--   extent
-- explain: Addresses and lengths of a file extent that is not inline are multiples of the sector size, in which data is
--   stored and has checksums. Bad memory changed the number. The kernel refuses the whole leaf. Copy out what can be
--   read (btrimg export), and write the file anew.
with sized as ( -- the last sector that a file can have has a row without its last byte: then it starts as it is long
    select * replace (if("offset" = 9223372036854775807 - length, "offset", length) as length)
    from file_extents, (select sectorsize from superblock)
),
unaligned as (
    from sized
    where kind <> 'inline' and (extent | extent_length | extent_offset | length | ram_bytes) % sectorsize <> 0
)
select subvolume, inode, odd.offset, field, value, sectorsize
from (unpivot unaligned on extent, extent_length, extent_offset, length, ram_bytes into name field value value) as odd
where value % sectorsize <> 0
