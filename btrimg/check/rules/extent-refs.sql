-- severity: error
-- sentence: extent {extent} counts {refs} references, but {recorded} are recorded
-- progs: incorrect global backref count; invalid extent refs; ref mismatch
-- explain: The number of references in an extent's item is not the sum of the references that are recorded in it and
--   behind it. Too low a number frees the extent while it is in use. Bad memory is the usual cause. `btrfs check
--   --repair` corrects the number.
select extent, refs, recorded
from recounted
where not exists (from unread_trees where tree in (1, 2))
