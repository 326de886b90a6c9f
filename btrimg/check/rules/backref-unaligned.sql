-- severity: error
-- sentence: extent {extent}: a {kind} reference says {value}, which is no multiple of {sectorsize}
-- progs: invalid data ref offset; invalid tree parent bytenr; invalid data parent bytenr; invalid extent data backref offset
-- explain: The address of a block that refers to an extent, or the place in the file that a reference names, is no
--   multiple of the sector size. Bad memory changed it. The kernel refuses the whole leaf of the extent tree, and soon
--   turns read-only. `btrfs check --repair` writes the references anew from what the trees use.
select extent, kind, if(parent % sectorsize <> 0, parent::hugeint, odd.offset::hugeint) as value, sectorsize
from unaligned_backrefs as odd
