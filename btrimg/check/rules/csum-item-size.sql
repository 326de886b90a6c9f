-- severity: error
-- sentence: the checksums at {logical} are {entries} in one item, at most {most} may be
-- progs: csum too large
-- explain: The kernel splits checksums so that an item leaves room in its leaf for another. One that is larger was
--   written by a buggy kernel or tool, or bad memory changed its size; adding to it fails. btrfs check --init-csum-tree
--   makes all checksums anew, where the data is known to be right.
select logical, entries, most
from odd_csums
where entries > most
