"""Sets of logical addresses as sorted, disjoint ranges, and arithmetic on them without a loop over ranges."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from btrimg.named import NamedTuple
from btrimg.trees.batches import ranges

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Ints = NDArray[np.int64]

_END = (1 << 63) - 1


class Spans(NamedTuple):
    """Ranges [start, end) in order; none is empty, touches or overlaps another."""

    start: Ints
    end: Ints

    def holds(self, address: Ints) -> NDArray[np.bool_]:
        """Return which of the addresses lie in a range."""
        at = np.searchsorted(self.start, address, "right") - 1
        inside: NDArray[np.bool_] = (at >= 0) & (address < np.append(self.end, 0)[at])
        return inside


NOTHING = Spans(np.empty(0, np.int64), np.empty(0, np.int64))


def union(logical: NDArray[np.uint64], length: NDArray[np.uint64]) -> Spans:
    """Return what lies in at least one of the ranges; addresses from 2**63 on, where no chunk is, are left out."""
    order = np.argsort(logical, kind="stable")
    top = np.uint64(_END)
    start = np.minimum(logical[order], top)
    end = (start + np.minimum(length[order], top - start)).view(np.int64)
    start = start.view(np.int64)
    kept = start < end
    start, end = start[kept], end[kept]
    reached = np.maximum.accumulate(end)
    first = np.flatnonzero(np.append(True, start[1:] > reached[:-1])[: len(start)])
    return Spans(start[first], reached[np.append(first[1:], len(start))[: len(first)] - 1])


def intersection(one: Spans, other: Spans) -> Spans:
    """Return what lies in both; ranges that touch only because *other*'s do stay apart."""
    first = np.searchsorted(other.end, one.start, "right")
    count = np.maximum(np.searchsorted(other.start, one.end, "left") - first, 0)
    theirs, ours = ranges(first, count), np.repeat(np.arange(len(count)), count)
    return Spans(np.maximum(one.start[ours], other.start[theirs]), np.minimum(one.end[ours], other.end[theirs]))


def difference(one: Spans, other: Spans) -> Spans:
    """Return what lies in *one* and not in *other*."""
    return intersection(one, Spans(np.append(0, other.end), np.append(other.start, _END)))
