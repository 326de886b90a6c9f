"""Cached pages: what a page is, and the keys by which two files find that theirs are the same.

A page is 4096 bytes of a file, whatever the sector size. Its key is three numbers, (space, unit, number). The scheme
of sharing chooses them; equal keys are one page in memory. The pages of an extent have keys that count up in *number*,
so that everything is done by runs, not page by page.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from btrimg.named import NamedTuple

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Ints = NDArray[np.int64]
    Codes = NDArray[np.uint8]

PAGE_SHIFT = 12
PAGE = 1 << PAGE_SHIFT  #: bytes

#: Why pages are not shared under a scheme; what the codes in ``KeyRuns.refusal`` mean. The key is the inode's own then.
REFUSALS = (
    *("", "hole", "inline", "prealloc", "compressed", "nodatacow", "unaligned", "devices"),
    *("no checksum", "damaged"),
)


class Place(NamedTuple):
    """Which file: numbers that say it within one image."""

    subvolume: int  #: id
    inode: int


class KeyRuns(NamedTuple):
    """Columns, one row per run of pages whose keys follow each other, in order of file and page.

    Every page of a file below its size is in exactly one run. ``number`` is that of the first page of the run, page
    k after it has ``number + k``, in the same ``space`` and ``unit``.
    """

    file: Ints  #: number of the file, as the caller counts them
    page: Ints  #: first page in the file: file offset // PAGE
    pages: Ints  #: how many
    space: Ints  #: who may share: kind of key, trust domain or subvolume
    unit: Ints  #: what the number counts in: a transid, an inode number
    number: Ints
    refusal: Codes  #: index into REFUSALS; 0 where the scheme shares
    row: Ints  #: the file extent row that makes up the pages; -1 where none does alone, see ``PageRuns.row``
