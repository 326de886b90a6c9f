-- severity: error
-- sentence: inode {objectid} in leaf {leaf} of tree {tree}: an xattr says that it is of type {found}, not {expected}
-- progs: invalid dir item type for XATTR key
-- explain: Xattrs and the entries of directories are stored alike, with a type; that of an xattr is 8. Bad memory
--   changed it. The kernel refuses the whole leaf.
select leaf, tree, objectid, found, expected from bad_items where fault = 'xattr-type'
