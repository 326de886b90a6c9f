-- severity: error
-- sentence: system chunk {logical}: {fault}
-- progs: none; failed to read the chunk tree
-- explain: The superblock has a copy of the chunks that the chunk tree itself lies in, or nobody could read it. Here
--   one of the two lacks a chunk, or they do not say the same of it: a lost write of a superblock or bad memory. If
--   what lies there can still be read, `btrfs rescue chunk-recover` makes both anew from a scan of the devices.
with copies as (
    select logical, length, flags, num_stripes, list((number, devid, physical, dev_uuid) order by number) as stripes
    from system_chunks
    group by all
),
originals as (
    select
        logical,
        length,
        flags,
        num_stripes,
        list((number, devid, physical, dev_uuid) order by number) as stripes
    from chunks
    join stripes on chunk = logical
    where flags & 2 > 0
    group by all
)
select
    logical,
    case
        when originals.length is null then 'the superblock has it, the chunk tree has not'
        when copies.length is null then 'the chunk tree has it, the superblock has not'
        else 'it is not the same in the superblock and in the chunk tree'
    end as fault
from copies
full join originals using (logical)
where (copies.length, copies.flags, copies.num_stripes, copies.stripes)
    is distinct from (originals.length, originals.flags, originals.num_stripes, originals.stripes)
    and exists (from chunks)
