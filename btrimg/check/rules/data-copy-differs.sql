-- severity: error
-- sentence: {length} bytes of data without checksums at logical {logical} differ from their other copies or from what
--   parity makes them: {places}
-- progs: none
-- needs: data
-- explain: The copies of data that have no checksums (nodatacow, nodatasum) are not the same bytes, so that what a
--   reader gets depends on the copy that is read. A crash while they were written in place, direct I/O from a buffer
--   that changed meanwhile, a device that was away for some time, or a medium that rots make that. Only with three copies
--   or more, or RAID6, can it be told which one is wrong: then that one alone is named. `btrfs scrub` cannot repair it.
--   Compare the contents with what they should be (`btrimg locate IMAGE --logical LOGICAL` names the files) and write the
--   file anew: cp to a new file, which writes all copies.
select
    logical, length,
    string_agg('mirror ' || mirror || ' at ' || physical || ' of device ' || devid, ', ' order by mirror) as places
from bad_copies where kind = 'nodatasum' and state in ('differs', 'bad')
group by logical, length
