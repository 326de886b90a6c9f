-- severity: error
-- sentence: {kind} extent {extent} of {length} bytes lies in no block group, or not wholly in one
-- progs: none; bad extent; no block group item
-- explain: Every extent lies within one block group. Here one does not: a block group is lost or too short, or bad
--   memory changed the extent's key. Nothing accounts for the space.
select extent, length, kind
from misplaced_extents
where outside
