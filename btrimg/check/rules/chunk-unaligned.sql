-- severity: warning
-- sentence: chunk {logical} of {length} bytes is not aligned to 64 KiB
-- progs: is not fully aligned to BTRFS_STRIPE_LEN
-- explain: The start or the length of a chunk is no multiple of 64 KiB. btrfs-convert and mkfs.btrfs made such chunks
--   once. Kernels read them; a balance moves what is in them to new ones.
select logical, length
from odd_chunks
where logical % 65536 > 0 or length % 65536 > 0
