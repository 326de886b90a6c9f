-- severity: error
-- sentence: chunk {logical} has the type {flags:#x}: {type_fault}
-- progs: unrecognized chunk type; invalid chunk profile flag; missing chunk type flag; system chunk with data or
--   metadata type; mixed chunk type in non-mixed mode
-- explain: The type of a chunk says what it holds (data, metadata or system, and data with metadata only where the
--   filesystem has the feature mixed-groups) and its profile, one at most. Bad memory sets bits. A kernel refuses to
--   read the leaf of the chunk tree that holds the chunk.
select logical, flags, type_fault
from odd_chunks
where type_fault is not null
