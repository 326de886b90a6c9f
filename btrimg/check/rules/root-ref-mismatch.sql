-- severity: error
-- sentence: subvolume {subvolume}: its ROOT_BACKREF says that it is {other_name} (index {other_sequence}) in
--   directory {other_dirid} of subvolume {parent}, the ROOT_REF {name} (index {sequence}) in directory {dirid}
-- progs: mismatch relative ref
-- explain: The root tree says twice where a subvolume hangs, and the two do not say the same. Deleting or renaming
--   the subvolume fails, and paths of it may be wrong. Bad memory does that. The subvolume itself can be read
--   (subvolid=); make a snapshot of it elsewhere.
select
    forth.subvolume,
    forth.parent,
    forth.name,
    forth.dirid,
    forth.sequence,
    back.name as other_name,
    back.dirid as other_dirid,
    back.sequence as other_sequence
from root_refs as forth
join root_refs as back on back.subvolume = forth.subvolume and back.parent = forth.parent
where forth.source = 'root_ref'
    and back.source = 'root_backref'
    and (forth.dirid <> back.dirid or forth.sequence <> back.sequence or forth.name <> back.name)
