"""A tree whose items are a dict in memory."""

from __future__ import annotations

from bisect import bisect_right
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from btrimg.errors import CorruptError
from btrimg.ondisk.blocks import KEY_MAX, KEY_MIN, Key
from btrimg.ondisk.constants import Incompat
from btrimg.trees.block import Pointer
from btrimg.trees.tree import Tree

if TYPE_CHECKING:
    from collections.abc import Iterator

    from btrimg.trees.tree import Report


class ListedTree(Tree):
    """Reads *items* as a tree does; one of them may be unreadable."""

    def __init__(self, items: dict[Key, bytes], unreadable: Key | None = None, nodesize: int = 4096) -> None:
        superblock = SimpleNamespace(incompat_flags=Incompat.EXTENDED_IREF)
        blocks: Any = SimpleNamespace(volume=SimpleNamespace(nodesize=nodesize, superblock=superblock))
        super().__init__(blocks, Pointer(4096, 0, owner=5))
        self._sorted, self._unreadable = sorted(items.items()), unreadable

    def items(
        self, first: Key = KEY_MIN, last: Key = KEY_MAX, *, bad: Report | None = None
    ) -> Iterator[tuple[Key, bytes]]:
        """Yield items as ``Tree.items`` does."""
        for key, payload in self._sorted:
            if key == self._unreadable and bad:
                bad(CorruptError(f"item {tuple(key)}"))
            elif first <= key <= last:
                yield key, payload

    def floor(self, key: Key) -> tuple[Key, bytes] | None:
        """Return the last item that is not above *key*."""
        below = bisect_right(self._sorted, key, key=lambda item: item[0])
        return self._sorted[below - 1] if below else None
