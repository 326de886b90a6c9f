"""One B-tree, read key by key: the point path. :mod:`scan` reads whole trees as columns."""

from __future__ import annotations

from bisect import bisect_left

from btrimg.errors import BlockError, CorruptError, NotFoundError
from btrimg.ondisk.blocks import KEY_MAX, KEY_MIN, Key

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from btrimg.trees.block import Block, BlockReader, Pointer

    Report = Callable[[CorruptError], None]


def after(key: Key) -> tuple[int, int, int]:
    """Return the smallest tuple above *key*; offset 2**64 is fine, it only takes part in comparisons."""
    return (key[0], key[1], key[2] + 1)


class Tree:
    """A read-only view of one tree; keys are (objectid, type, offset) and sort as tuples."""

    def __init__(self, blocks: BlockReader, root: Pointer) -> None:
        self.blocks, self.root = blocks, root

    def get(self, key: Key) -> bytes:
        """Return the payload at exactly *key*.

        Raises NotFoundError when there is none, BlockError when a block on the way is bad.
        """
        payload = self.find(key)
        if payload is None:
            raise NotFoundError(f"no item {tuple(map(int, key))} in tree {self.root.owner}")
        return payload

    def find(self, key: Key) -> bytes | None:
        """Return the payload at exactly *key*, None if there is none: for who expects that, an error costs more.

        Raises BlockError when a block on the way is bad.
        """
        found = self.floor(key)
        return found[1] if found and found[0] == key else None

    def items(
        self, first: Key = KEY_MIN, last: Key = KEY_MAX, *, bad: Report | None = None
    ) -> Iterator[tuple[Key, bytes]]:
        """Yield items with first <= key <= last in key order, both ends included.

        Blocks and items that cannot be read raise BlockError or CorruptError; with *bad* they are handed to it and
        skipped.
        """
        end = after(last)
        pending: list[Iterator[Pointer]] = [
            iter((self.root,))
        ]  # one a level; recursion would pass items up through all
        while pending:
            at = next(pending[-1], None)
            if at is None:
                pending.pop()
                continue
            try:
                block = self.blocks.read(at)
            except BlockError as error:
                if bad is None:
                    raise
                bad(error)
                continue
            stop = bisect_left(block.slots, end)
            if block.header.level == 0:
                yield from self._leaf(block, bisect_left(block.slots, first), stop, bad)
            else:
                # *first* may lie inside the child whose own first key is smaller: start one pointer early.
                start = bisect_left(block.slots, after(first)) - 1
                pending.append(block.children(range(max(start, 0), stop), at))

    @staticmethod
    def _leaf(block: Block, start: int, stop: int, bad: Report | None) -> Iterator[tuple[Key, bytes]]:
        for slot in range(start, stop):
            try:
                payload = block.payload(slot)
            except CorruptError as error:
                if bad is None:
                    raise
                bad(error)
                continue
            yield block.key(slot), payload

    def floor(self, key: Key) -> tuple[Key, bytes] | None:
        """Return the item with the greatest key that is not above *key*, None when all are above.

        Raises BlockError when a block on the way is bad.
        """
        at = self.root
        while True:
            block = self.blocks.read(at)
            slot = bisect_left(block.slots, after(key)) - 1
            if slot < 0:
                return None
            if block.header.level == 0:
                return block.key(slot), block.payload(slot)
            at = block.child(slot, at)
