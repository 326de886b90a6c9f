-- severity: error
-- sentence: inode {inode} of subvolume {subvolume}: {found} of the {length} bytes at {start} have checksums, but were
--   never written
-- progs: odd csum item; prealloc shouldn't have csum
-- explain: Space that was reserved and not yet written reads as zeros and has no checksums, unless another file that
--   shares the extent has written it. Here it has some: a lost write of the file extent, after which what was written
--   reads as zeros, or a bug of an old kernel. If the file misses what was written last, look at the extent itself
--   (btrimg locate); else the checksums are only in the way.
select subvolume, inode, start, length, found from needless_csums where why = 'prealloc'
