-- severity: error
-- sentence: chunk {logical} has the type {flags:#x}: {fault}
-- progs: unrecognized chunk type; invalid chunk profile flag; missing chunk type flag; system chunk with data or
--   metadata type; mixed chunk type in non-mixed mode
-- explain: The type of a chunk says what it holds (data, metadata or system, and data with metadata only where the
--   filesystem has the feature mixed-groups) and its profile, one at most. Bad memory sets bits. A kernel refuses to
--   read the leaf of the chunk tree that holds the chunk.
select
    logical,
    chunks.flags as flags,
    case
        when chunks.flags & ~8191 > 0 then 'there are bits that are not known'
        when profile = '' then 'there are several profiles'
        when holds = '' and chunks.flags & 4096 = 0 then 'it does not say what the chunk holds'
        when holds in ('data+system', 'system+metadata', 'data+system+metadata') then 'a system chunk holds nothing else'
        else 'data and metadata are not mixed on this filesystem'
    end as fault
from chunks
cross join superblock
where chunks.flags & ~8191 > 0
    or profile = ''
    or holds = '' and chunks.flags & 4096 = 0
    or holds in ('data+system', 'system+metadata', 'data+system+metadata')
    or holds = 'data+metadata' and incompat_flags & 4 = 0
