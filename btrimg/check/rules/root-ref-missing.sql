-- severity: error
-- sentence: subvolume {subvolume} hangs in subvolume {parent} as {name} by its {there}, but there is no {missing}
-- progs: no root ref; no root backref; couldn't find relative ref
-- explain: The root tree says twice where a subvolume hangs: ROOT_REF is its parent's word, ROOT_BACKREF its own. One
--   of them is missing: deleting or renaming the subvolume fails, or its path cannot be told. A lost write or bad
--   memory leave that. The subvolume itself can be read (subvolid=); make a snapshot of it, and let btrfs check
--   --repair see to the rest.
with counted as (
    select
        subvolume,
        parent,
        any_value(name) as name,
        count(*) filter (source = 'root_ref') as refs,
        count(*) filter (source = 'root_backref') as back
    from root_refs
    group by all
)
select
    subvolume,
    parent,
    name,
    case refs when 0 then 'ROOT_BACKREF' else 'ROOT_REF' end as there,
    case refs when 0 then 'ROOT_REF' else 'ROOT_BACKREF' end as missing
from counted
where refs = 0 or back = 0
