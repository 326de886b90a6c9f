-- severity: error
-- sentence: subvolume {subvolume} is deleted, but no ORPHAN_ITEM says that its space is to be freed
-- progs: fs tree missing orphan item
-- explain: A deleted subvolume (its root item counts no references) is noted as an orphan, and is freed in the
--   background, also after the next mount. Without the note its space is never freed. Bugs of old kernels left that;
--   nothing is lost but the space. btrfs check --repair adds the note.
select id as subvolume
from roots
anti join orphans on tree = 1 and objectid = id
where id between 256 and 281474976710655 and refs = 0
