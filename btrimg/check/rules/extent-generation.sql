-- severity: error
-- sentence: extent {logical} is of generation {generation}, the filesystem of {last}
-- progs: invalid generation for extent
-- explain: An extent's item says that it was allocated by a transaction that is still to come. Old kernels wrote such
--   items after a snapshot's blocks were copied with garbage in memory; bad memory does it, too. A kernel refuses to
--   read the leaf of the extent tree that holds the item. `btrfs check --repair` corrects the generation.
select logical, generation, last
from odd_extents
where to_come
