-- severity: error
-- sentence: the checksums at {logical} are {entries} in one item, at most {most} may be
-- progs: csum too large
-- explain: The kernel splits checksums so that an item leaves room in its leaf for another. One that is larger was
--   written by a buggy kernel or tool, or bad memory changed its size; adding to it fails. btrfs check --init-csum-tree
--   makes all checksums anew, where the data is known to be right.
with most as (
    select
        sectorsize,
        -- header of the leaf; two slots; one checksum less than fits
        (nodesize - 101 - 2 * 25) // case csum_type when 0 then 4 when 1 then 8 else 32 end - 1 as most
    from superblock
)
select logical, length // sectorsize as entries, most
from csums, most
where length // sectorsize > most
