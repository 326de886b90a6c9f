-- severity: error
-- sentence: checksums cover the data from {logical} to {ending}, not all of which belongs to an extent
-- progs: csum exists for … but there is no extent record; there are no extents for csum range
-- explain: There are checksums of data that no extent holds. If other data is written there, its checksums may clash
--   with these, and reading it fails. An extent was lost from the extent tree (see extent-missing), or old kernels did
--   not remove checksums when replaying a log. btrfs check --init-csum-tree makes all checksums anew, where the data is
--   known to be right.
select csum_runs.logical, csum_runs.ending
from csum_runs
asof left join data_runs on csum_runs.logical >= data_runs.logical
where (data_runs.ending is null or data_runs.ending < csum_runs.ending)
-- Data of a log tree belongs to extents that replaying the log will record.
and not exists (from log_data where log_data.logical < csum_runs.ending and csum_runs.logical < log_data.logical + log_data.length)
