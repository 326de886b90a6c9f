-- Items of the checksum tree with more checksums than a kernel puts into one, or of data that items before them have, too.
with items as (
    select
        logical,
        length,
        max(logical + length) over (order by logical rows between unbounded preceding and 1 preceding) as ending
    from csums
)
select
    logical,
    ending,
    length // sectorsize as entries,
    -- header of the leaf; two slots; one checksum less than fits
    (nodesize - 101 - 2 * 25) // case csum_type when 0 then 4 when 1 then 8 else 32 end - 1 as most
from items
cross join superblock
where ending > logical or entries > most
