"""Free space of one block group in the free space tree: read it, and bring it up to date by what changed.

A set of addresses is kept as its edges: the sorted addresses at which free space begins or ends, in turn. To change
whether a range is free is to toggle its two edges, whatever lies beside it: ranges that touch join by themselves, and
what is taken and given back leaves no trace.

A block group says all of it in items of one kind (fs/btrfs/free-space-tree.c): FREE_SPACE_EXTENT, one for each run, or
FREE_SPACE_BITMAP, which lie side by side and have a bit for each sector. Places of superblocks are free in this tree.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right

from btrimg.errors import CorruptError, NotFoundError
from btrimg.ondisk.blocks import Key
from btrimg.ondisk.chunks import FreeSpaceInfo
from btrimg.ondisk.constants import FreeSpaceFlag, ItemType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Set
    from typing import Self

    from btrimg.trees.overlay import OverlayTree
    from btrimg.trees.tree import Tree

    Range = tuple[int, int]  # start and end

_FEW = 200  # edges; more are toggled by sorting all


def toggle(edges: set[int], start: int, end: int) -> None:
    """Change in *edges* whether the bytes [start, end), at least one, belong to the set."""
    edges ^= {start, end}


def ranges_of(edges: Iterable[int]) -> Iterator[Range]:
    """Yield the ranges between sorted *edges*."""
    turns = iter(edges)
    return zip(turns, turns, strict=True)


class SpaceRecord:
    """What the free space tree says of a block group."""

    def __init__(self, logical: int, length: int, sectorsize: int) -> None:
        """Begin with a new block group, of which the tree says nothing."""
        self._logical, self._end, self._sectorsize = logical, logical + length, sectorsize
        self._info: FreeSpaceInfo | None = None  # as in the tree
        self._bitmaps: list[Range] | None = None
        self.edges: list[int] = []

    @classmethod
    def load(cls, tree: Tree, logical: int, length: int, sectorsize: int) -> Self:
        """Read what *tree* says of a block group.

        Raises CorruptError when it says nothing, or what cannot be.
        """
        record = cls(logical, length, sectorsize)
        try:
            record._info = FreeSpaceInfo.unpack(tree.get(record._info_key()))
        except NotFoundError:
            raise CorruptError(f"block group {logical} is not in the free space tree") from None
        in_bitmaps = bool(record._info.flags & FreeSpaceFlag.USING_BITMAPS)
        record._bitmaps = [] if in_bitmaps else None
        expected = ItemType.FREE_SPACE_BITMAP if in_bitmaps else ItemType.FREE_SPACE_EXTENT
        for key, payload in tree.items(Key(logical, 0, 0), Key(record._end - 1, 255, length)):
            if key.type == ItemType.FREE_SPACE_INFO and key.objectid == logical:
                continue
            if key.type != expected or key.offset == 0:
                raise CorruptError(f"block group {logical}: its free space has an item ({' '.join(map(str, key))})")
            if record._bitmaps is None:
                record._take_extent(key.objectid, key.objectid + key.offset)
            else:
                record._take_bitmap(record._bitmaps, key.objectid, key.objectid + key.offset, payload)
        record._judge()
        return record

    def _info_key(self) -> Key:
        return Key(self._logical, ItemType.FREE_SPACE_INFO, self._end - self._logical)

    def _take_extent(self, start: int, end: int) -> None:
        behind = self.edges[-1] if self.edges else self._logical - 1  # runs must not touch
        if start <= behind or end > self._end or (start | end) % self._sectorsize:
            raise CorruptError(f"block group {self._logical}: its free space cannot be from {start} to {end}")
        self.edges += (start, end)

    def _take_bitmap(self, bitmaps: list[Range], start: int, end: int, payload: bytes) -> None:
        sectors = (end - start) // self._sectorsize
        behind = bitmaps[-1][1] if bitmaps else self._logical
        if start != behind or end > self._end or end % self._sectorsize or len(payload) != -(-sectors // 8):
            raise CorruptError(f"block group {self._logical}: no bitmap can be from {start} to {end}")
        bitmaps.append((start, end))
        bits = int.from_bytes(payload, "little")
        if bits >> sectors:
            raise CorruptError(f"block group {self._logical}: the bitmap at {start} has bits behind its end")
        digits, size = bin(bits ^ bits << 1)[:1:-1], self._sectorsize  # 1 where a bit is not as the one before it
        at = start - size
        edges = [at := at + (len(gap) + 1) * size for gap in digits.split("1")[:-1]]
        if edges and self.edges and self.edges[-1] == edges[0]:  # the run began in the bitmap before
            del self.edges[-1], edges[0]
        self.edges += edges

    def _judge(self) -> None:
        """Raise CorruptError where the parts do not fit each other; the kernel judges the number of runs, too."""
        if self._bitmaps is not None and (not self._bitmaps or self._bitmaps[-1][1] != self._end):
            raise CorruptError(f"block group {self._logical}: its bitmaps of free space do not reach its end")
        if self._info is not None and self._info.extent_count != len(self.edges) // 2:
            raise CorruptError(
                f"block group {self._logical} has {len(self.edges) // 2} runs of free space, the free space tree says"
                f" {self._info.extent_count}"
            )

    def update(self, tree: OverlayTree, changed: Set[int]) -> int:
        """Toggle the edges *changed*, in *tree* too; return by how many bytes free space grew."""
        points = sorted(changed)
        old = self._runs_near(points)
        self._toggle(points)
        new = self._runs_near(points)
        if self._bitmaps is None:
            for start, end in sorted(old - new):
                tree.delete(Key(start, ItemType.FREE_SPACE_EXTENT, end - start))
            for start, end in sorted(new - old):
                tree.put(Key(start, ItemType.FREE_SPACE_EXTENT, end - start), b"")
        else:
            for start, end in self._bitmaps_near(self._bitmaps, points):
                tree.put(Key(start, ItemType.FREE_SPACE_BITMAP, end - start), self._bitmap(start, end))
        flags = self._info.flags if self._info else 0
        info = FreeSpaceInfo(len(self.edges) // 2, flags)
        if info != self._info:
            self._info = info
            tree.put(self._info_key(), info.pack())
        return sum(end - start for start, end in new - old) - sum(end - start for start, end in old - new)

    def _runs_near(self, points: list[int]) -> set[Range]:
        """Return the runs that meet or touch what lies between the *points*, in turn."""
        edges, found = self.edges, set()
        for start, end in ranges_of(points):
            for run in range(bisect_left(edges, start) // 2, (bisect_right(edges, end) + 1) // 2):
                found.add((edges[2 * run], edges[2 * run + 1]))
        return found

    def _toggle(self, points: list[int]) -> None:
        if len(points) > _FEW:
            self.edges = sorted(set(self.edges).symmetric_difference(points))
            return
        for point in points:
            at = bisect_left(self.edges, point)
            if at < len(self.edges) and self.edges[at] == point:
                del self.edges[at]
            else:
                self.edges.insert(at, point)

    @staticmethod
    def _bitmaps_near(bitmaps: list[Range], points: list[int]) -> list[Range]:
        """Return the bitmaps in which anything changes."""
        numbers: set[int] = set()
        starts = [start for start, _ in bitmaps]
        for start, end in ranges_of(points):
            numbers.update(range(bisect_right(starts, start) - 1, bisect_left(starts, end)))
        return [bitmaps[number] for number in sorted(numbers)]

    def _bitmap(self, start: int, end: int) -> bytes:
        """Return the payload of the bitmap of [start, end)."""
        edges, size, bits = self.edges, self._sectorsize, 0
        for run in range(bisect_left(edges, start) // 2, (bisect_left(edges, end) + 1) // 2):
            first = (max(edges[2 * run], start) - start) // size
            count = (min(edges[2 * run + 1], end) - start) // size - first
            bits |= ((1 << count) - 1) << first
        return bits.to_bytes(-(-(end - start) // size // 8), "little")
