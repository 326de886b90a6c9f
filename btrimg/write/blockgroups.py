"""Block groups: what is free in one, what changed, and what the trees say of it."""

from __future__ import annotations

from bisect import bisect_left
from functools import cached_property

from btrimg.errors import CorruptError, NotFoundError
from btrimg.ondisk.blocks import Key
from btrimg.ondisk.chunks import BlockGroupItem
from btrimg.ondisk.constants import FIRST_CHUNK_TREE_OBJECTID, U64_MAX, CompatRo, ItemType, TreeId
from btrimg.ondisk.items import records_of
from btrimg.volume.devicemap import superblock_ranges
from btrimg.write.freeruns import FreeRuns
from btrimg.write.freespace import SpaceRecord, ranges_of, toggle

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from btrimg.trees.overlay import OverlayTree
    from btrimg.volume.chunkmap import MappedChunk
    from btrimg.volume.volume import Volume

    Range = tuple[int, int]  # start and end, logical

_FREE_SPACE_TREE = CompatRo.FREE_SPACE_TREE | CompatRo.FREE_SPACE_TREE_VALID


class Group:
    """A block group, of which as much is known as was needed."""

    def __init__(self, chunk: MappedChunk) -> None:
        self.chunk = chunk
        self.item: BlockGroupItem | None = None  #: as in the tree
        self.free: FreeRuns | None = None  #: what may be given out, None before it is loaded
        self.record: SpaceRecord | None = None  #: what the free space tree says
        self.recorded = True  #: whether the trees know of the block group
        self.growth = 0  #: bytes taken, less those released, since the item was written
        self.changed: set[int] = set()  #: edges of what became free or ceased to be since it was recorded
        self.released: set[int] = set()  #: edges of what was released since the last commit

    @cached_property
    def kept(self) -> list[Range]:
        """Return where superblocks leave no room."""
        return sorted((start, start + length) for start, length in superblock_ranges(self.chunk))

    def took(self, start: int, length: int) -> None:
        """Note that bytes were taken from ``free``."""
        toggle(self.changed, start, start + length)
        self.growth += length

    def gave_back(self, start: int, length: int) -> None:
        """Note that bytes were put back into ``free``: they were taken for nothing."""
        toggle(self.changed, start, start + length)
        self.growth -= length

    def release(self, start: int, length: int) -> None:
        """Note that bytes are in use no longer; they are given out again only after the commit."""
        toggle(self.changed, start, start + length)
        toggle(self.released, start, start + length)
        self.growth -= length

    def committed(self) -> None:
        """Let what was released be given out again."""
        if self.free is not None:
            for start, end in without(ranges_of(sorted(self.released)), self.kept):
                self.free.add(start, end - start)
        self.released.clear()


class Ledger:
    """What the trees say of block groups: reads it when needed, and writes what changed."""

    def __init__(self, volume: Volume, tree: Callable[[int], OverlayTree]) -> None:
        self._volume, self._tree = volume, tree
        flags = volume.superblock.compat_ro_flags
        own_tree = flags & CompatRo.BLOCK_GROUP_TREE
        self._items_in = TreeId.BLOCK_GROUP_TREE if own_tree else TreeId.EXTENT_TREE
        self._has_space_tree = flags & _FREE_SPACE_TREE == _FREE_SPACE_TREE

    def room(self, group: Group) -> int:
        """Return the bytes that can be given out, or before they are loaded a number that is not below that."""
        return group.free.total if group.free is not None else group.chunk.length - self._item(group).used

    def _item(self, group: Group) -> BlockGroupItem:
        if group.item is None:
            key = _item_key(group)
            try:
                group.item = records_of(BlockGroupItem, key.type, self._tree(self._items_in).get(key))[0]
            except NotFoundError:
                raise CorruptError(f"chunk {group.chunk.logical} has no block group item") from None
        return group.item

    def load(self, group: Group) -> FreeRuns:
        """Return what may be given out of a block group, read from the trees the first time.

        Raises CorruptError when what is free and what the item says is used do not make up the block group: to write
        there would destroy data.
        """
        if group.free is None:
            chunk = group.chunk
            if (chunk.logical | chunk.length) % self._volume.sectorsize:
                raise CorruptError(f"chunk {chunk.logical} of {chunk.length} bytes begins or ends amid a sector")
            released = list(ranges_of(sorted(group.released)))
            if self._has_space_tree:
                free: Iterable[Range] = ranges_of(self._load_record(group).edges)
            else:
                # The extent tree may or may not know already what was released in this transaction.
                found = without(self._between_extents(group), released)
                self._judge(group, _bytes(found) + _bytes(released), self._item(group).used + group.growth)
                free = found
            group.free = FreeRuns(without(free, sorted([*group.kept, *released])))
        return group.free

    def begin(self, group: Group) -> None:
        """Take a new block group, of which the trees say nothing yet."""
        chunk = group.chunk
        group.recorded = False
        group.item = BlockGroupItem(0, FIRST_CHUNK_TREE_OBJECTID, chunk.type)
        group.free = FreeRuns(without([(chunk.logical, chunk.end)], group.kept))
        if self._has_space_tree:
            group.record = SpaceRecord(chunk.logical, chunk.length, self._volume.sectorsize)
        toggle(group.changed, chunk.logical, chunk.end)

    def _load_record(self, group: Group) -> SpaceRecord:
        if group.record is None:
            chunk, tree = group.chunk, self._tree(TreeId.FREE_SPACE_TREE)
            group.record = SpaceRecord.load(tree, chunk.logical, chunk.length, self._volume.sectorsize)
            edges = group.record.edges
            self._judge(group, sum(edges[1::2]) - sum(edges[::2]), self._item(group).used)
        return group.record

    @staticmethod
    def _judge(group: Group, free: int, used: int) -> None:
        chunk = group.chunk
        if used + free != chunk.length:
            raise CorruptError(
                f"block group {chunk.logical} has {used} bytes in use and {free} free, which are not its {chunk.length}"
            )

    def _between_extents(self, group: Group) -> Iterator[Range]:
        """Yield what is between the extents of a block group."""
        at, end = group.chunk.logical, group.chunk.end
        for key, _ in self._tree(TreeId.EXTENT_TREE).items(Key(at, 0, 0), Key(end - 1, 255, U64_MAX)):
            if key.type not in (ItemType.EXTENT_ITEM, ItemType.METADATA_ITEM):
                continue
            length = key.offset if key.type == ItemType.EXTENT_ITEM else self._volume.nodesize
            if key.objectid < at or key.objectid + length > end or (key.objectid | length) % self._volume.sectorsize:
                raise CorruptError(f"extent {key.objectid} of {length} bytes cannot be where it is")
            if at < key.objectid:
                yield at, key.objectid
            at = key.objectid + length
        if at < end:
            yield at, end

    def record(self, group: Group) -> None:
        """Bring the items of a block group up to date; where nothing changed since the last time, write nothing.

        Raises CorruptError when something was released that was free already.
        """
        item = self._item(group)
        if self._has_space_tree and (group.changed or not group.recorded):
            gained = self._load_record(group).update(self._tree(TreeId.FREE_SPACE_TREE), group.changed)
            if gained != (0 if group.recorded else group.chunk.length) - group.growth:
                raise CorruptError(f"bytes of block group {group.chunk.logical} are to be free that are so already")
        group.changed.clear()
        if group.growth or not group.recorded:
            used = item.used + group.growth
            if not 0 <= used <= group.chunk.length:
                raise CorruptError(f"block group {group.chunk.logical} would have {used} bytes in use")
            group.item = item.replace(used=used)
            self._tree(self._items_in).put(_item_key(group), group.item.pack())
        group.growth, group.recorded = 0, True


def _bytes(ranges: Iterable[Range]) -> int:
    return sum(end - start for start, end in ranges)


def _item_key(group: Group) -> Key:
    return Key(group.chunk.logical, ItemType.BLOCK_GROUP_ITEM, group.chunk.length)


def without(ranges: Iterable[Range], holes: list[Range]) -> list[Range]:
    """Return the parts of rising *ranges* that lie in none of the sorted *holes*."""
    left: list[Range] = []
    every, at = list(ranges), 0  # what begins behind is still to be looked at
    for start, end in holes:
        first = bisect_left(every, (start,), at)
        left += every[at:first]
        at = first
        if left and left[-1][1] > start:
            begin, behind = left.pop()
            left.append((begin, start))
            if behind > end:
                at -= 1
                every[at] = end, behind
        at = bisect_left(every, (end,), at)
        if at > first and every[at - 1][1] > end:
            at -= 1
            every[at] = end, every[at][1]
    return left + every[at:]
