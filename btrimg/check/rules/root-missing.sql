-- severity: error
-- sentence: subvolume {parent} has {name} in directory {dirid}, which leads to subvolume {subvolume}, but that has no
--   ROOT_ITEM
-- progs: fs tree refs not found
-- explain: The root tree says where a subvolume hangs, but not where it is. The name cannot be opened. A lost write,
--   or an interrupted deletion by an old kernel, left that. What the subvolume held can only be found by searching
--   (btrimg inspect find-root).
-- of: root_refs
select parent, dirid, subvolume, any_value(name) as name
from root_refs
anti join roots on id = subvolume
group by all
