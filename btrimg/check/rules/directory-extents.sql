-- severity: error
-- sentence: directory {inode} of subvolume {subvolume} has {extents} file extents
-- progs: odd file extent; DIR INODE shouldn't have EXTENT_DATA
-- explain: Only regular files and symlinks have file extents. Bad memory changed the mode of the inode, or the key of
--   the extents. What the extents hold can be read once the mode is put right by a tool that edits images.
-- of: odd_file_extents
select subvolume, inode, count(*) as extents
from odd_file_extents
where of_directory
group by all
