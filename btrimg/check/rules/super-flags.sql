-- severity: error
-- sentence: device {devid}: the superblock at {physical} has the flags {flags:#x}, of which {odd:#x} tell of {what}
-- progs: none; superblock flags
-- explain: Flags of the superblock tell that the filesystem met an error, or that a tool was converting it and did
--   not get to the end (changing its uuid, its checksums, or where block groups stand), or they are not known. The
--   kernel does not mount a half converted filesystem. Run the tool again (btrfstune) to let it finish.
select
    devid,
    physical,
    mirror,
    flags,
    flags & ~known as odd,
    case
        when flags & 4 > 0 then 'an error'
        when flags & (59::ubigint << 35) > 0 then 'an unfinished conversion'
        else 'what is not known'
    end as what
from (
    select *, (7::ubigint << 32) + 3 as known
    from superblocks
    where state = 'sound' and ours
    qualify row_number() over (partition by devid order by mirror) = 1
)
where flags & ~known > 0
