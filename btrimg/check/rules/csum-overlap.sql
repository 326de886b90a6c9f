-- severity: error
-- sentence: two items have checksums of the data at {logical}: one of them goes on to {ending}
-- progs: csum overlap
-- explain: Two items of the checksum tree cover the same data. Which of them is used is chance; if they differ,
--   reading may fail. Bugs in replaying a log (before 5.3 and 5.13) left that. If btrfs check --check-data-csum finds
--   no other error, copy the files that lie there (btrimg locate --logical) and remove the originals.
select logical, ending
from odd_csums
where ending > logical
