-- severity: error
-- sentence: {kind} extent {extent} lies in block group {block_group}, which holds {holds}
-- progs: bad extent, type mismatch with chunk; CHUNK_TYPE_MISMATCH
-- explain: Data lies in block groups for data, and tree blocks in those for metadata, those of the chunk tree in
--   system ones. Here an extent lies where it cannot be. Bad memory changed flags or addresses. Profiles, and what
--   scrub does, are then wrong for it.
select extent, kind, block_group, holds
from misplaced_extents
where not outside
