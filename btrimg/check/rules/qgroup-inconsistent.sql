-- severity: warning
-- sentence: quotas are marked as inconsistent or being counted (flags {flags:#x}), so their numbers may be wrong
-- progs: Rescan hasn't been initialized, a difference in qgroup accounting is expected; Qgroup rescan is running
-- explain: The kernel itself says that the numbers of the quota groups may be wrong: after what it cannot account for
--   (a deleted snapshot, a change of groups), or while it counts them anew. They are not judged. btrfs quota rescan
--   counts anew.
select flags from qgroup_status where flags & 6 <> 0
