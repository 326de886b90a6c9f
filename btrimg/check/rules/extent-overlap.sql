-- severity: error
-- sentence: extent {extent} begins before extent {before} ends, at {before_end}
-- progs: extent item has multiple extent items; previous extent overlaps current extent
-- explain: Two extents share space, so that what is written to one changes the other. Bad memory changed the key of
--   one, or free space was given out twice. A kernel refuses to read the leaf of the extent tree that holds the
--   second. Copy out the data (btrimg export), at once, and see which of the two it is.
select logical as extent, before, before_end
from seams
where kind < 3 and before_kind < 3 and logical < before_end
