-- severity: error
-- sentence: device {devid}: the superblock at {physical} has the flags {flags:#x}, of which {odd_flags:#x} tell of
--   {what}
-- progs: none; superblock flags
-- explain: Flags of the superblock tell that the filesystem met an error, or that a tool was converting it and did
--   not get to the end (changing its uuid, its checksums, or where block groups stand), or they are not known. The
--   kernel does not mount a half converted filesystem. Run the tool again (btrfstune) to let it finish.
select
    devid,
    physical,
    mirror,
    flags,
    odd_flags,
    case
        when odd_flags & 4 > 0 then 'an error'
        when odd_flags & (59::ubigint << 35) > 0 then 'an unfinished conversion'
        else 'what is not known'
    end as what
from odd_superblocks
where odd_flags > 0
