-- severity: error
-- sentence: inode {inode} of subvolume {subvolume} is a symlink, but has an extent of its own at {extent}
-- progs: inline file extent too large
-- explain: The target of a symlink stands in the metadata. An extent is too large for one, so bad memory changed the
--   mode of a file, or a tool wrote the link. Such a link cannot be followed. If it was a file, put its mode right with
--   a tool that edits images; else make the link anew.
select subvolume, inode, extent
from odd_file_extents
where of_symlink
