-- severity: error
-- sentence: inode {inode} of subvolume {subvolume} counts {nbytes} bytes in its file extents, but they have {found}
-- progs: nbytes wrong; nbytes not equal to extent_size
-- explain: What stat shows as blocks is not what the file extents take, holes left out. Replay of a log or races of
--   old kernels leave that; a lost extent does, too. The contents are right if every other check of the file is. btrfs
--   check --repair corrects the number.
-- of: odd_sizes
with odd as (
    select subvolume, inode, nbytes
    from inodes
    semi join odd_sizes on odd_sizes.subvolume = inodes.subvolume and range = inode >> 8
    where mode >> 12 in (8, 10) and nlink > 0 and inode <> 18446744073709551604
)
select subvolume, inode, nbytes, coalesce(sum(length), 0)::hugeint as found
from odd
left join (
    select subvolume, inode, length + ("offset" = 9223372036854775807 - length)::int as length -- the last byte, in no row
    from file_extents
    where kind <> 'hole'
) using (subvolume, inode)
group by all
having nbytes <> coalesce(sum(length), 0)
