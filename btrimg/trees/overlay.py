"""A tree with changes laid over it, in memory: what a transaction would make of it, while nothing is written."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from typing import TYPE_CHECKING

from btrimg.errors import NotFoundError
from btrimg.ondisk.blocks import KEY_MAX, KEY_MIN, Key
from btrimg.trees.tree import Tree

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from btrimg.trees.tree import Report

    Items = Iterable[tuple[Key, bytes]]


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

    def put(self, key: Key, payload: bytes) -> None:
        """Insert an item, or overwrite the one that has this key."""
        self._change(key, payload)

    def delete(self, key: Key) -> None:
        """Delete the item that has this key, if there is one."""
        self._change(key, None)

    def _change(self, key: Key, payload: bytes | None) -> None:
        if key not in self._changes:
            insort(self._keys, key)
        self._changes[key] = payload

    def changed_objectids(self) -> list[int]:
        """Return the objectids of which an item was put or deleted, sorted."""
        return sorted({key.objectid for key in self._keys})

    def get(self, key: Key) -> bytes:
        """Return the payload at exactly *key*; errors are those of ``Tree.get``."""
        if key not in self._changes:
            return self._base.get(key)
        payload = self._changes[key]
        if payload is None:
            raise NotFoundError(f"no item {tuple(key)} in tree {self.root.owner}")
        return payload

    def items(
        self, first: Key = KEY_MIN, last: Key = KEY_MAX, *, bad: Report | None = None
    ) -> Iterator[tuple[Key, bytes]]:
        """Yield items with first <= key <= last in key order, both ends included; errors as those of ``Tree.items``."""
        below = self._base.items(first, last, bad=bad)
        keys = self._keys[bisect_left(self._keys, first) : bisect_right(self._keys, last)]
        return _merge([(key, self._changes[key]) for key in keys], below) if keys else below

    def floor(self, key: Key) -> tuple[Key, bytes] | None:
        """Return the item with the greatest key that is not above *key*, None when all are above."""
        found = self._base.floor(key)
        while found and found[0] in self._changes:
            found = self._base.floor(_before(found[0])) if found[0] != KEY_MIN else None
        for position in range(bisect_right(self._keys, key) - 1, -1, -1):
            changed = self._keys[position]
            payload = self._changes[changed]
            if found and found[0] > changed:
                break
            if payload is not None:
                return changed, payload
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
