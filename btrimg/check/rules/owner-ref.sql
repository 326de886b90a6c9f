-- severity: error
-- sentence: extent {extent}: {fault}
-- progs: owner ref
-- explain: With simple quotas, the item of a data extent names once the subvolume that is charged for it. Here it
--   does so more than once, for a tree block, or although the filesystem has no simple quotas. Bad memory is the
--   usual cause; quota numbers will be wrong.
select
    extent,
    count(*) as owners,
    case
        when count(*) > 1 then 'it has ' || count(*) || ' owners'
        when any_value(kind) = 'tree block' then 'it is a tree block, and has an owner for simple quotas'
        else 'it has an owner, but the filesystem is without simple quotas'
    end as fault
from owner_refs
group by extent
having count(*) > 1 or any_value(kind) = 'tree block' or not any_value(simple_quotas)
