-- severity: error
-- sentence: subvolume {subvolume} counts {refs} references, but hangs in {found} places that can be reached
-- progs: fs tree refs mismatch
-- explain: A subvolume hangs in one place, which its root item counts; one that is being deleted hangs nowhere and
--   counts 0. Here the two differ: the subvolume hangs nowhere and takes space that cannot be seen, or it is deleted
--   while it still has a name, or subvolumes hang in each other in a loop. Interrupted operations and bad memory do
--   that. Mount it by its id (subvolid=) to read it.
with recursive reached(id) as (
    select 5::ubigint as id
    union
    select subvolume from root_refs join reached on parent = id where source = 'root_ref'
),
counted as (
    select subvolume, count(*) as found
    from root_refs
    semi join reached on id = parent
    where source = 'root_ref'
    group by all
)
select id as subvolume, refs, coalesce(found, 0) as found
from roots
left join counted on subvolume = id
where id between 256 and 281474976710655 and refs <> coalesce(found, 0)
