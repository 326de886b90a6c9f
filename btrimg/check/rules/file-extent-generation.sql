-- severity: error
-- sentence: inode {inode} of subvolume {subvolume}: the file extent at {offset} is of generation {generation}, after
--   the last commit {last}
-- progs: invalid file extent generation
-- explain: A file extent says that it was written in a transaction later than the last one. Bad memory does that, or
--   an old kernel that wrote uninitialised numbers; send and the incremental copies made by it go wrong. The data is
--   not affected; a copy of the file is sound.
select subvolume, inode, "offset", generation, last
from odd_file_extents
where generation > last
