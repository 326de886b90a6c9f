-- severity: error
-- sentence: block group {logical} has {length} bytes and flags {flags:#x}, its chunk {chunk_length} and
--   {chunk_flags:#x}
-- progs: mismatch with block group; related chunk item length does not match; REFERENCER_MISMATCH
-- explain: A block group and its chunk have the same length and the same flags. Bad memory changed a number. A kernel
--   refuses to mount the filesystem.
select
    logical,
    groups.length as length,
    groups.flags as flags,
    chunks.length as chunk_length,
    chunks.flags as chunk_flags
from block_groups as groups
join chunks using (logical)
where groups.length <> chunks.length or groups.flags <> chunks.flags
