-- severity: error
-- sentence: quota group {member_level}/{member} is in group {group_level}/{group_id}, but {fault}
-- progs: failed to add qgroup relation
-- explain: The quota tree says which groups are members of others, once under either. Here one of the two is missing,
--   or a group that is named does not exist, or groups of the same level hold each other. The numbers of the groups
--   above cannot be trusted. Remove the relation (btrfs qgroup remove) and assign it anew.
with pairs as (
    select
        least(objectid, "offset") as member,
        greatest(objectid, "offset") as above,
        count(*) as ways
    from qgroup_relations
    group by all
),
faults as (
    select member, above, 'this stands there one way only' as fault from pairs where ways < 2
    union all
    select member, above, 'the one is not of a lower level than the other' from pairs where member >> 48 >= above >> 48
    union all
    select member, above, 'the first does not exist' from pairs anti join qgroups on id = member
    union all
    select member, above, 'the second does not exist' from pairs anti join qgroups on id = above
)
select
    member >> 48 as member_level,
    member & 281474976710655 as member,
    above >> 48 as group_level,
    above & 281474976710655 as group_id,
    fault
from faults
