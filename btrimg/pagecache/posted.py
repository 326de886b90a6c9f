"""What the patches posted in 2021 would do wrong, each defect by name: arithmetic on the chunk map, nothing is read.

They take a file offset to ``block_start + (pos - em->start)`` and that for an offset on the device, ask neither for
inline data, nor for unwritten or compressed extents, nor whether anybody shares the extent, and read by the block
device, which knows no checksums.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from btrimg.filesystem.columns import COMPRESSED, INLINE, PREALLOC, REGULAR
from btrimg.named import NamedTuple
from btrimg.ondisk.constants import InodeFlag
from btrimg.pagecache.pages import PAGE_SHIFT, KeyRuns
from btrimg.pagecache.schemes import cut_at_stripes, posted

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from btrimg.pagecache.filerows import FileRows
    from btrimg.pagecache.schemes import Domains

    Ints = NDArray[np.int64]
    Bools = NDArray[np.bool_]


class Defect(NamedTuple):
    """One way in which pages go wrong."""

    name: str
    what: str
    wrong: bool  #: whether bytes that are read are not the file's


#: What the numbers in ``Posted.defect`` mean.
DEFECTS = (
    Defect("none", "the device has the page at its logical address", wrong=False),
    Defect("untranslated", "the device has something else at the logical address", wrong=True),
    Defect("compressed", "compressed bytes are taken for data", wrong=True),
    Defect("inline", "-2 is taken for an address: past the end of the device", wrong=True),
    Defect("prealloc", "unwritten disk contents are read in the place of zeros", wrong=True),
)
_NONE, _UNTRANSLATED, _COMPRESSED, _INLINE, _PREALLOC = range(len(DEFECTS))


class Posted(NamedTuple):
    """The keys of the posted scheme, cut so that a run has one defect, or none."""

    keys: KeyRuns
    defect: Ints  #: of each run, number in DEFECTS; 0 as well for what stays in the inode's mapping
    unchecked: Bools  #: whether the run is read without the checksum that there is

    def pages_by_defect(self) -> dict[str, int]:
        """Return how many pages of files are read wrong, when each file is read once, in the order of DEFECTS."""
        found = np.zeros(len(DEFECTS), np.int64)
        np.add.at(found, self.defect, self.keys.pages)
        return {each.name: int(pages) for each, pages in zip(DEFECTS, found, strict=True) if each.wrong}

    @property
    def unchecked_pages(self) -> int:
        """Return how many pages of files have a checksum that is not looked at."""
        return int(self.keys.pages[self.unchecked].sum())


def examine(rows: FileRows, domains: Domains) -> Posted:
    """Return what the posted scheme does with *rows*.

    A page is right when one copy lies on the only device at the very offset that is the page's logical address.
    Unwritten space counts as wrong whatever the disk holds there.
    """
    rows = cut_at_stripes(rows)
    keys = posted(rows, domains)
    taken = np.flatnonzero(keys.refusal == 0)
    extents, row = rows.extents, keys.row[taken]
    kind = extents.kind[row]
    logical = extents.logical[row] + (keys.page[taken] << PAGE_SHIFT) - extents.offset[row]
    found = rows.place_map().locate(logical.view(np.uint64))
    right = np.zeros(len(taken), np.bool_)
    for copy, (devid, physical) in enumerate(zip(found.devid, found.physical, strict=True)):
        here = (copy < found.copies) & (devid == rows.image.superblock.dev_item.devid)
        right |= here & (physical == logical)
    choices = [kind == COMPRESSED, kind == INLINE, kind == PREALLOC, ~right]
    defect = np.zeros(len(keys.file), np.int64)
    defect[taken] = np.select(choices, [_COMPRESSED, _INLINE, _PREALLOC, _UNTRANSLATED], _NONE)
    unchecked = np.zeros(len(keys.file), np.bool_)
    summed = rows.files.flags[keys.file[taken]] & int(InodeFlag.NODATASUM) == 0
    unchecked[taken] = summed & ((kind == REGULAR) | (kind == COMPRESSED))
    return Posted(keys, defect, unchecked)
