-- severity: error
-- sentence: inode {inode} of subvolume {subvolume} has no checksums by its flags, but {found} of the {length} bytes
--   at {start} have some
-- progs: odd csum item; nodatasum shouldn't have datasum
-- explain: A file that is written without checksums (the flag NODATASUM) has data with checksums. They are not kept
--   up to date when the file is overwritten in place, so scrub and send may find errors where there are none. A bit of
--   the inode's flags changed, or an old kernel mixed the two. A copy of the file is sound.
select subvolume, inode, start, length, found from needless_csums where why = 'nodatasum'
