"""Whose the pages in memory are, when several use them: each sharer's part, and what goes with it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from btrimg.named import NamedTuple
from btrimg.pagecache.coverage import ranked

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from btrimg.pagecache.pages import KeyRuns

    Ints = NDArray[np.int64]


class Shares(NamedTuple):
    """What each sharer uses, in pages, by number of the sharer."""

    used: list[int]  #: pages in memory that it reads, whoever else does
    proportional: list[float]  #: likewise, each divided by how many sharers there are: they add up to all of memory
    freed: list[int]  #: pages that nobody else reads: what its end gives back


def attribute(keys: KeyRuns, sharer: Ints, sharers: int) -> Shares:
    """Return what each of *sharers* uses; *sharer* says of each run whose it is. Runs may overlap in any way."""
    order = np.lexsort((keys.unit, keys.space))
    space, unit = keys.space[order], keys.unit[order]
    line = np.zeros(len(order), np.int64)  # number of the (space, unit)
    line[order[1:]] = np.cumsum((space[1:] != space[:-1]) | (unit[1:] != unit[:-1]))
    at, first, last = ranked(line, keys.number, keys.number + keys.pages)
    whose, first, last = _united(sharer, first, last, len(at))
    count = np.zeros(len(at) + 1, np.int64)
    np.add.at(count, first, 1)
    np.subtract.at(count, last, 1)
    count = np.cumsum(count)[:-1]
    length = np.where(count > 0, np.append(at[1:], 0) - at, 0)

    def sums(pages: NDArray[Any]) -> NDArray[Any]:
        """Return the sum of *pages* over what each sharer uses."""
        before = np.append(np.zeros(1, pages.dtype), np.cumsum(pages))
        total: NDArray[Any] = np.zeros(sharers, pages.dtype)
        np.add.at(total, whose, before[last] - before[first])
        return total

    return Shares(
        used=[int(pages) for pages in sums(length)],
        proportional=[float(pages) for pages in sums(length / np.maximum(count, 1))],
        freed=[int(pages) for pages in sums(np.where(count == 1, length, 0))],
    )


def _united(sharer: Ints, first: Ints, last: Ints, width: int) -> tuple[Ints, Ints, Ints]:
    """Return the union of each sharer's ranges, all of them below *width*: ranges that do not touch one another."""
    start, end = sharer * width + first, sharer * width + last
    order = np.argsort(start, kind="stable")
    start, reached = start[order], np.maximum.accumulate(end[order])
    new = np.append(True, start[1:] > reached[:-1])[: len(start)]
    end = reached[np.append(new[1:], True)[: len(start)]]
    start = start[new]
    return start // width, start % width, end - start // width * width
