-- severity: error
-- sentence: inode {objectid} in leaf {leaf} of tree {tree}: {what} has a location with the number {found}, where 0 belongs
-- progs: invalid location key offset
-- explain: An entry of a directory leads to an inode by its number and nothing more, an xattr nowhere: what else the
--   location has room for is zero. Bad memory changed it. The kernel refuses the whole leaf.
select leaf, tree, objectid, case type when 24 then 'an xattr' else 'an entry of the directory' end as what, found
from bad_items
where fault = 'location'
