"""A tree with changes laid over it, in memory: what a transaction would make of it, while nothing is written."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort

from btrimg.ondisk.blocks import KEY_MAX, KEY_MIN, Key
from btrimg.trees.block import Pointer
from btrimg.trees.tree import Tree

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from btrimg.trees.block import BlockReader
    from btrimg.trees.tree import Report

    Items = Iterable[tuple[Key, bytes]]

_FEW = 64  # of 10,000 keys inserting one moves some 40 KB (1 us), sorting them again compares each (0.3 ms)
_LATE = 8192  # keys that are kept apart from many others, so that to insert one does not move those


class EmptyTree(Tree):
    """A tree without any block: what a new one is laid over."""

    def __init__(self, blocks: BlockReader, tree_id: int) -> None:
        super().__init__(blocks, Pointer(0, 0, owner=tree_id))

    def items(
        self, first: Key = KEY_MIN, last: Key = KEY_MAX, *, bad: Report | None = None
    ) -> Iterator[tuple[Key, bytes]]:
        """Yield nothing."""
        return iter(())

    def floor(self, key: Key) -> tuple[Key, bytes] | None:
        """Return None."""
        return None

    def find(self, key: Key) -> bytes | None:
        """Return None."""
        return None


class OverlayTree(Tree):
    """Tree *base* with items put and deleted; reads as a tree does, but has no blocks of its own.

    ``root`` is that of the base, which knows nothing of the changes. Iteration sees the items that were there when it
    began, so that a loop over them may change the tree.
    """

    def __init__(self, base: Tree) -> None:
        super().__init__(base.blocks, base.root)
        self._base = base
        self._changes: dict[Key, bytes | None] = {}  # None where the item is deleted
        self._keys: list[Key] = []  # those of the changes, sorted
        self._late: list[Key] = []  # those of later ones, sorted
        self._unsorted: list[Key] = []  # those of the latest ones

    def put(self, key: Key, payload: bytes) -> None:
        """Insert an item, or overwrite the one that has this key."""
        if key not in self._changes:
            self._unsorted.append(key)
        self._changes[key] = payload

    def put_all(self, items: Sequence[tuple[Key, bytes]]) -> None:
        """Put many *items*, of different keys."""
        changes = self._changes
        self._unsorted += [key for key, _ in items if key not in changes]
        changes.update(items)

    def delete(self, key: Key) -> None:
        """Delete the item that has this key, if there is one."""
        if key not in self._changes:
            self._unsorted.append(key)
        self._changes[key] = None

    def _sort(self) -> None:
        """Sort in the keys of the latest changes; very many cost one sort, a few among many an insertion each."""
        if len(self._unsorted) <= _FEW:
            for key in self._unsorted:
                insort(self._late, key)
        else:
            self._late += self._unsorted
            self._late.sort()
        self._unsorted.clear()
        if len(self._late) > _LATE:
            self._keys += self._late
            self._keys.sort()
            self._late.clear()

    def _between(self, first: Key, last: Key) -> list[Key]:
        """Return the keys of changes from *first* to *last*, both included, in order."""
        self._sort()
        keys, late = (each[bisect_left(each, first) : bisect_right(each, last)] for each in (self._keys, self._late))
        return sorted(keys + late) if keys and late else keys or late

    def _last(self, key: Key) -> Key | None:
        """Return the greatest key of a change that is not above *key*; the keys are sorted."""
        ends = ((each, bisect_right(each, key)) for each in (self._keys, self._late))
        return max((each[end - 1] for each, end in ends if end), default=None)

    @property
    def pending(self) -> int:
        """Return how many items were put or deleted."""
        return len(self._changes)

    def changes(self) -> list[tuple[Key, bytes | None]]:
        """Return what was put, and None for what was deleted, in the order of keys."""
        changes = self._changes
        return [(key, changes[key]) for key in self._between(KEY_MIN, KEY_MAX)]

    def rebase(self, base: Tree) -> None:
        """Forget the changes: *base*, another tree, has them."""
        self._base, self.blocks, self.root = base, base.blocks, base.root
        self._changes, self._keys, self._late, self._unsorted = {}, [], [], []

    def changed_objectids(self) -> list[int]:
        """Return the objectids of which an item was put or deleted, sorted."""
        return sorted({key.objectid for key in self._changes})

    def find(self, key: Key) -> bytes | None:
        """Return the payload at exactly *key*, None if there is none; errors are those of ``Tree.find``."""
        return self._changes[key] if key in self._changes else self._base.find(key)

    def items(
        self, first: Key = KEY_MIN, last: Key = KEY_MAX, *, bad: Report | None = None
    ) -> Iterator[tuple[Key, bytes]]:
        """Yield items with first <= key <= last in key order, both ends included; errors as those of ``Tree.items``."""
        below = self._base.items(first, last, bad=bad)
        keys = self._between(first, last)
        return _merge([(key, self._changes[key]) for key in keys], below) if keys else below

    def floor(self, key: Key) -> tuple[Key, bytes] | None:
        """Return the item with the greatest key that is not above *key*, None when all are above."""
        found = self._base.floor(key)
        while found and found[0] in self._changes:
            found = self._base.floor(_before(found[0])) if found[0] != KEY_MIN else None
        self._sort()
        changed = self._last(key)
        while changed is not None and (found is None or found[0] < changed):
            payload = self._changes[changed]
            if payload is not None:
                return changed, payload
            changed = self._last(_before(changed)) if changed != KEY_MIN else None
        return found


def _merge(changes: list[tuple[Key, bytes | None]], below: Items) -> Iterator[tuple[Key, bytes]]:
    """Yield the items of both in key order; a change stands for the item *below* that has the same key."""
    position = 0
    for key, payload in below:
        while position < len(changes) and changes[position][0] < key:
            changed, new = changes[position]
            if new is not None:
                yield changed, new
            position += 1
        if position == len(changes) or changes[position][0] != key:
            yield key, payload
    yield from ((changed, new) for changed, new in changes[position:] if new is not None)


def _before(key: Key) -> Key:
    """Return the greatest key below *key*, which is not KEY_MIN."""
    number = (key.objectid << 72 | key.type << 64 | key.offset) - 1
    return Key(number >> 72, number >> 64 & 0xFF, number & 0xFFFF_FFFF_FFFF_FFFF)
