-- severity: error
-- sentence: inode {objectid} in leaf {leaf} of tree {tree}: an entry of the directory has {found} bytes of data
-- progs: dir item with invalid data len
-- explain: Xattrs and the entries of directories are stored alike; only the former have data behind the name. Bad memory
--   changed the length. The kernel refuses the whole leaf.
select leaf, tree, objectid, found from bad_items where fault = 'entry-data'
