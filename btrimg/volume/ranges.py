"""Sets of addresses, as ranges."""

from __future__ import annotations

from bisect import bisect_left, bisect_right

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator


class Ranges:
    """Ranges [start, end) that neither overlap nor touch, in order."""

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return iter(zip(self._starts, self._ends, strict=True))

    def add(self, start: int, end: int) -> None:
        """Add a range, which may have addresses that are there."""
        if start >= end:
            return
        first, last = bisect_left(self._ends, start), bisect_right(self._starts, end)
        if first < last:
            start, end = min(start, self._starts[first]), max(end, self._ends[last - 1])
        self._starts[first:last], self._ends[first:last] = [start], [end]

    def missing(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """Yield what of a range is not there; the set may grow meanwhile by what was yielded."""
        at, behind = bisect_right(self._ends, start), bisect_left(self._starts, end)
        for first, last in zip(self._starts[at:behind], self._ends[at:behind], strict=True):
            if start < first:
                yield start, first
            start = last
        if start < end:
            yield start, end
