-- severity: error
-- sentence: device extent at {physical} of device {devid} says that its chunk is {chunk_objectid} of tree
--   {chunk_tree}
-- progs: invalid dev extent chunk tree id; invalid dev extent chunk objectid
-- explain: A device extent names the tree and the objectid of its chunk, which are always the same: 3 and 256. Bad
--   memory changed one of them. A kernel refuses to read the leaf of the device tree that holds the item.
select devid, physical, chunk_tree, chunk_objectid
from odd_dev_extents
where wrong_chunk_key
