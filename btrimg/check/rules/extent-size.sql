-- severity: error
-- sentence: extent {extent} has {item_length} bytes by its item, {length} by {user} that uses it
-- progs: backref bytes do not match extent backref; BACKREF_MISMATCH; REFERENCER_MISMATCH
-- explain: Who uses an extent and the extent tree do not agree on its size. One of the two was changed by bad memory
--   or comes from a lost write. Reading goes by what the file says; whatever else lies in the rest of the range, or
--   is written there later, is at risk. Copy out the data (btrimg export) and write the file anew.
select extent, user, length, item_length
from claims
where uses > 0 and length <> item_length
