-- severity: error
-- sentence: quota group {level}/{subvolume} says {rfer} bytes referenced, {excl} exclusive; counted are
--   {counted_rfer} and {counted_excl}
-- progs: Counts for qgroup id are different
-- explain: A quota group's numbers are not what its subvolumes reference: limits hold too early or too late, and
--   btrfs qgroup show is wrong. Data is not affected. Bugs of old kernels left that, above all with deleted snapshots
--   and groups of groups. btrfs quota rescan counts anew.
select
    id >> 48 as level,
    id & 281474976710655 as subvolume,
    qgroups.rfer,
    qgroups.excl,
    qgroup_counts.rfer as counted_rfer,
    qgroup_counts.excl as counted_excl
from qgroups
join qgroup_counts using (id)
where qgroups.rfer <> qgroup_counts.rfer or qgroups.excl <> qgroup_counts.excl
