-- severity: error
-- sentence: subvolume {subvolume}: the top directory, inode {inode}, {fault}
-- progs: root dir not found; root dir INODE_ITEM is missing; root dir INODE_REF is missing; odd dir item
-- explain: The top directory of a subvolume is its own parent: it has one link, which is its reference `..` of index
--   0 to itself, and no directory has an entry for it. Without that the subvolume cannot be mounted, or paths in it
--   make loops. Bad memory or a lost write leave that; `btrfs check --repair` makes the top directory anew.
with top as (
    select subvolume, inode, nlink, mode
    from inodes
    join roots on id = subvolume and inode = root_dirid
),
names_of_top as (
    select subvolume, inode, source, parent, index, name, location_type
    from names
    join roots on id = subvolume and inode = root_dirid
    where location_type <> 132
)
select id as subvolume, root_dirid as inode, 'is not there' as fault
from roots
anti join linked_inodes on subvolume = id and inode = root_dirid
where (id = 5 or id between 256 and 281474976710655) and refs > 0
union all
select subvolume, inode, 'has mode ' || mode || ', which is not that of a directory'
from top
where mode >> 12 <> 4
union all
select subvolume, inode, 'has ' || nlink || ' links instead of 1' from top where nlink <> 1
union all
select subvolume, inode, 'has no reference ".." to itself'
from top
anti join (
    select subvolume, inode from names_of_top join known_names on name = number where parent = inode and text = '..'
) using (subvolume, inode)
union all
select subvolume, inode, 'has a name in directory ' || parent from names_of_top where parent <> inode group by all
union all
select subvolume, inode, 'has the index ' || index || ' in its reference to itself'
from names_of_top
where parent = inode and index <> 0
