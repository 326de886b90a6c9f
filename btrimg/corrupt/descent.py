"""Find tree blocks and items in trees that need not be sound: no promise is checked, only that a walk ends."""

from __future__ import annotations

from typing import TYPE_CHECKING

from btrimg.corrupt import leaf
from btrimg.errors import BtrimgError, CorruptError, NotFoundError
from btrimg.named import NamedTuple
from btrimg.ondisk.blocks import KEY_MAX, KEY_MIN, Key, KeyPtr
from btrimg.ondisk.constants import U64_MAX, ItemType, TreeId
from btrimg.ondisk.roots import RootItem

if TYPE_CHECKING:
    from collections.abc import Iterator

    from btrimg.corrupt.storage import Storage
    from btrimg.volume.volume import Volume

    Pattern = tuple[int | None, int | None, int | None]


class Way(NamedTuple):
    """How a block was reached."""

    logical: int
    above: tuple[tuple[int, int], ...] = ()  #: (logical, slot) of every node above it, the root first


class Descent:
    """Reads tree blocks as the draft of *storage* has them; roots are those of the superblock that was opened."""

    def __init__(self, volume: Volume, storage: Storage) -> None:
        self._volume, self._storage = volume, storage

    def block(self, logical: int) -> bytes:
        """Return a tree block: the first copy whose checksum is right and that claims the address, else the first."""
        size, csum = self._volume.nodesize, self._volume.csum
        found = [self._storage.read(logical, size, copy) for copy in self._storage.copies(logical, size)]
        for data in found:
            if data[: csum.size] == csum.digest(data[32:]) and data[48:56] == logical.to_bytes(8, "little"):
                return data
        return found[0]

    def root_of(self, tree_id: int, log_of: int | None = None) -> int:
        """Return where the root of a tree stands; with *log_of* that of the log of this subvolume.

        Raises NotFoundError when there is no such tree.
        """
        superblock = self._volume.superblock
        if log_of is not None:
            return self._root_item(self.root_of(TreeId.TREE_LOG), TreeId.TREE_LOG, log_of, log_of)
        roots = {
            TreeId.ROOT_TREE: superblock.root,
            TreeId.CHUNK_TREE: superblock.chunk_root,
            TreeId.TREE_LOG: superblock.log_root,
        }
        if tree_id in roots:
            if not roots[TreeId(tree_id)]:
                raise NotFoundError("there is no log tree")
            return roots[TreeId(tree_id)]
        return self._root_item(superblock.root, tree_id, 0, U64_MAX)

    def _root_item(self, root: int, tree_id: int, first: int, last: int) -> int:
        found = None
        for key, payload in self.items(root, (tree_id, ItemType.ROOT_ITEM, None)):
            if first <= key.offset <= last:
                found = payload
        if found is None:
            raise NotFoundError(f"there is no tree {tree_id}" if not first else f"subvolume {first} has no log")
        return int(RootItem.unpack(found.ljust(RootItem.SIZE, b"\0")).bytenr)

    def way_to(self, root: int, key: Key, level: int | None = 0) -> Way:
        """Return the block of *level* (None: the root) on the way from *root* to *key*.

        Raises CorruptError when the levels do not go down to it one by one.
        """
        way, data = Way(root), self.block(root)
        while level is not None and leaf.level_of(data) != level:
            way, data = self._down(way, data, leaf.slot_for(data, key))
        return way

    def _down(self, way: Way, data: bytes, slot: int) -> tuple[Way, bytes]:
        level = leaf.level_of(data)
        if level == 0 or slot >= leaf.count_of(data):
            raise CorruptError(f"block {way.logical} has level {level}: there is nothing to find below it")
        child = KeyPtr.unpack(data, leaf.slot_start(data, slot)).blockptr
        below = self.block(child)
        if leaf.level_of(below) != level - 1:
            raise CorruptError(f"block {child} has level {leaf.level_of(below)}, that above it {level}")
        return Way(child, (*way.above, (way.logical, slot))), below

    def leaves(self, root: int, first: Key, last: Key) -> Iterator[tuple[Way, bytes]]:
        """Yield the leaves below *root* that may hold keys from *first* to *last*; what cannot be read is left out."""
        pending = [(Way(root), self.block(root))]
        while pending:
            way, data = pending.pop()
            if leaf.level_of(data) == 0:
                yield way, data
                continue
            keys = leaf.keys_of(data)
            below = []
            for slot in range(leaf.slot_for(data, first), len(keys)):
                if keys[slot] > last:
                    break
                try:
                    below.append(self._down(way, data, slot))
                except BtrimgError:
                    continue
            pending += reversed(below)

    def items(self, root: int, pattern: Pattern) -> Iterator[tuple[Key, bytes]]:
        """Yield the items below *root* whose keys fit *pattern*."""
        for _, data, slot in self.matches(root, pattern):
            yield leaf.keys_of(data)[slot], leaf.payload_of(data, slot)

    def matches(self, root: int, pattern: Pattern) -> Iterator[tuple[Way, bytes, int]]:
        """Yield way, leaf and slot of the items below *root* whose keys fit *pattern*, where None fits all."""
        first, last = bounds(pattern)
        for way, data in self.leaves(root, first, last):
            for slot, key in enumerate(leaf.keys_of(data)):
                if all(want is None or want == part for want, part in zip(pattern, key, strict=True)):
                    yield way, data, slot


def bounds(pattern: Pattern) -> tuple[Key, Key]:
    """Return the lowest and the highest key that can fit *pattern*."""
    known = pattern[: pattern.index(None)] if None in pattern else pattern
    given = [part for part in known if part is not None]
    return Key(*given, *KEY_MIN[len(given) :]), Key(*given, *KEY_MAX[len(given) :])
