-- severity: error
-- sentence: inode {inode} of subvolume {subvolume} has {stored} bytes of inline data ({compression}), for {told}
--   bytes of the file; at most {most} fit
-- progs: invalid inline ram bytes; wrong inline size; inline file extent too large; has empty inline extent
-- explain: Data within the metadata says how long it is, and is less than a sector. Here the length is 0, too large,
--   or of data that is not compressed not what the item holds. Old kernels' clones and bad memory did that. The data
--   can be read; a copy of the file is sound, and btrfs check --repair corrects the length.
select subvolume, inode, inline_stored as stored, inline_ram_bytes as told, compression, most_inline as most
from odd_file_extents
where wrong_inline
