"""The checksums that a commit adds and drops, collected by address and brought into the checksum tree at once."""

from __future__ import annotations

from bisect import bisect_left, bisect_right

from btrimg.filesystem.edit_extents import drop_csums, put_csums
from btrimg.ondisk.blocks import Header, Item

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from btrimg.trees.overlay import OverlayTree

_MOST_SUMS = 4096  # of one item, whatever their size: PAGE_SIZE in MAX_CSUM_ITEMS, where pages are of 4 KiB


class PendingCsums:
    """The checksums of data between two states of the checksum tree; addresses are logical, lengths whole sectors.

    What comes later counts: data dropped after they were put leave nothing, data put after they were dropped stay.
    Both may come in any order and number; neighbours are joined as they come.
    """

    def __init__(self, csum_size: int, sectorsize: int, nodesize: int) -> None:
        self._size, self._sectorsize = csum_size, sectorsize
        self._longest = longest_item(nodesize, csum_size)
        self._reach = self._longest // csum_size * sectorsize  # bytes of data
        self._starts: list[int] = []  # sorted; of runs that do not overlap, each of one item at most
        self._ends: list[int] = []
        self._parts: list[list[bytes]] = []
        self._dropped: list[tuple[int, int]] = []
        self.pending = 0  #: bytes of checksums that are held in memory

    def put(self, logical: int, sums: bytes) -> None:
        """Take *sums* for the checksums of the sectors from *logical* on, one after the other."""
        end = logical + len(sums) // self._size * self._sectorsize
        at = bisect_right(self._starts, logical)
        if (at and self._ends[at - 1] > logical) or (at < len(self._starts) and self._starts[at] < end):
            self._cut(logical, end)
            at = bisect_right(self._starts, logical)
        room = 0
        if at and self._ends[at - 1] == logical:
            room = self._longest - self._index(logical - self._starts[at - 1])
            self._parts[at - 1].append(sums[:room])
            self._ends[at - 1] = min(end, self._starts[at - 1] + self._reach)
        for done in range(room, len(sums), self._longest):
            start = logical + done // self._size * self._sectorsize
            self._insert(at, start, min(end, start + self._reach), sums[done : done + self._longest])
            at += 1
        self.pending += len(sums)

    def drop(self, logical: int, length: int) -> None:
        """Forget the checksums of *length* bytes from *logical* on: nothing is stored there any more."""
        self._cut(logical, logical + length)
        self._dropped.append((logical, logical + length))

    def apply(self, tree: OverlayTree) -> None:
        """Make the changes in the checksum *tree*, and be empty again."""
        for start, end in _joined(self._dropped):
            drop_csums(tree, start, end, self._size, self._sectorsize)
        for start, parts in zip(self._starts, self._parts, strict=True):
            put_csums(tree, start, b"".join(parts), self._size, self._sectorsize)
        for each in (self._starts, self._ends, self._parts, self._dropped):
            each.clear()
        self.pending = 0

    def _insert(self, at: int, start: int, end: int, sums: bytes) -> None:
        self._starts.insert(at, start)
        self._ends.insert(at, end)
        self._parts.insert(at, [sums])

    def _cut(self, start: int, end: int) -> None:
        """Take [start, end) out of the runs that are held."""
        first, last = bisect_right(self._ends, start), bisect_left(self._starts, end)
        held = [(self._starts[at], self._ends[at], b"".join(self._parts[at])) for at in range(first, last)]
        del self._starts[first:last], self._ends[first:last], self._parts[first:last]
        for run_start, run_end, sums in reversed(held):
            self.pending -= len(sums)
            for left, right in ((max(run_start, end), run_end), (run_start, min(run_end, start))):
                if left < right:
                    kept = sums[self._index(left - run_start) : self._index(right - run_start)]
                    self._insert(first, left, right, kept)
                    self.pending += len(kept)

    def _index(self, distance: int) -> int:
        return distance // self._sectorsize * self._size


def longest_item(nodesize: int, csum_size: int) -> int:
    """Return the most bytes of checksums that the kernel puts into one item.

    It leaves room for a second item, and one checksum, in the leaf (fs/btrfs/file-item.c ``MAX_CSUM_ITEMS``).
    """
    room = (nodesize - Header.SIZE - 2 * Item.SIZE) // csum_size - 1
    return min(room, _MOST_SUMS) * csum_size


def _joined(ranges: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Yield *ranges* in order, those that touch or overlap as one."""
    joined: tuple[int, int] | None = None
    for start, end in sorted(ranges):
        if joined is None or start > joined[1]:
            if joined:
                yield joined
            joined = start, end
        else:
            joined = joined[0], max(joined[1], end)
    if joined:
        yield joined
