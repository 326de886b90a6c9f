"""Which ranges hold which points."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from btrimg.trees.batches import ranges
from btrimg.trees.distinct import different

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    Ints = NDArray[np.int64]

_PAIRS = 1 << 20  # looked at at a time


def holders_of(points: Ints, start: Ints, length: Ints) -> tuple[Ints, Ints]:
    """Return the pairs of a point and a range [start, start + length) that holds it, as indexes.

    Ranges are taken in classes, each of lengths from a power of two to the next: those of a class that hold a point
    start less than its greatest length before it, and about every second one that starts there does hold it. So time
    grows with what is found, however the ranges overlap.
    """
    found: list[tuple[Ints, Ints]] = [(points[:0], points[:0])]
    size_class = np.frexp(np.maximum(length, 0).astype(np.float64))[1]
    for number in different(size_class[length > 0]).tolist():
        own = np.flatnonzero((size_class == number) & (length > 0))
        own = own[np.argsort(start[own], kind="stable")]
        starts = start[own]
        after = np.searchsorted(starts, points, "right")
        before = np.minimum(np.searchsorted(starts, points - (1 << min(number, 62)), "left"), after)
        for some in portions(after - before, _PAIRS):
            count = (after - before)[some]
            point = np.repeat(np.arange(len(points))[some], count)
            candidate = own[ranges(before[some], count)]
            holds = points[point] - start[candidate] < length[candidate]
            found.append((point[holds], candidate[holds]))
    point, candidate = (np.concatenate(column) for column in zip(*found, strict=True))
    return point, candidate


def portions(count: Ints, most: int) -> Iterator[slice]:
    """Yield slices of *count*, each with a sum of at most *most* or of one element."""
    ends = np.cumsum(count)
    begin = 0
    while begin < len(count):
        done = int(ends[begin - 1]) if begin else 0
        end = max(int(np.searchsorted(ends, done + most, "right")), begin + 1)
        yield slice(begin, end)
        begin = end
