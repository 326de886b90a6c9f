-- severity: error
-- sentence: the superblock says that there is {said} block group tree, and there is {found}
-- progs: Invalid key type(BLOCK_GROUP_ITEM) found in root(BLOCK_GROUP_TREE); Couldn't setup block group tree
-- explain: The feature bit of the superblock says in which tree a kernel looks for block groups: in one of their own, or
--   in the extent tree. Here it is the wrong one, so none are found, and nothing can be mounted. A tool changed the
--   bit, or bad memory did; it can be set again.
select said, found
from (
    select
        case when superblock.compat_ro_flags & 8 > 0 then 'a' else 'no' end as said,
        case when count(roots.id) > 0 then 'one' else 'none' end as found
    from superblock left join roots on roots.id = 11
    where superblock.flags & (1::ubigint << 38) = 0  -- they are being moved: super-flags tells of that
    group by all
)
where (said = 'a') <> (found = 'one')
