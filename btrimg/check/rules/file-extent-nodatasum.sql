-- severity: error
-- sentence: inode {inode} of subvolume {subvolume} has no checksums, but its file extent at {offset} is compressed
-- progs: bad file extent; is compressed, but inode flag doesn't allow it
-- explain: Files without checksums (the flag NODATASUM, by chattr +C or nodatasum) are not compressed, because a
--   wrong byte would spoil all that follow. Old kernels compressed some nevertheless. The data can be read; a copy of
--   the file is sound.
select subvolume, inode, "offset"
from odd_file_extents
where without_sums
