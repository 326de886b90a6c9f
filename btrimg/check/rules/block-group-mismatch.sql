-- severity: error
-- sentence: block group {logical} has {group_length} bytes and flags {group_flags:#x}, its chunk {length} and
--   {flags:#x}
-- progs: mismatch with block group; related chunk item length does not match; REFERENCER_MISMATCH
-- explain: A block group and its chunk have the same length and the same flags. Bad memory changed a number. A kernel
--   refuses to mount the filesystem.
select logical, group_length, group_flags, length, flags
from odd_chunks
where unlike_group
