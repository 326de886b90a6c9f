"""A tree asked for keys that lie close together, such as those of one file, or of the files of one directory."""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING

from btrimg.named import NamedTuple
from btrimg.ondisk.blocks import KEY_MAX, KEY_MIN
from btrimg.trees.tree import Tree, after

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from btrimg.ondisk.blocks import Key
    from btrimg.trees.block import Block, BlockReader, Pointer
    from btrimg.trees.tree import Report

_SPANS = 6  #: leaves that are remembered: a directory's, its files', and what somebody else asks for meanwhile
_TOP = (1 << 64,)  #: above every key
_STRIDE, _AHEAD = 4, 32  #: leaves by which a walk moves on, and that it is expected to need next
_WALKS = 8  #: that are remembered


class _Span(NamedTuple):
    """A leaf, and the keys that are in it if they are anywhere: from *first* on, below *end*."""

    first: tuple[int, ...]
    end: tuple[int, ...]
    leaf: Block


class NearTree(Tree):
    """A tree that first looks into the leaves that it found last; else every search goes down from the root.

    The tree must not change. Answers are those of :class:`Tree`, whose ``items`` also serves callers that skip what
    is bad.
    """

    def __init__(self, blocks: BlockReader, root: Pointer) -> None:
        super().__init__(blocks, root)
        self._spans: list[_Span] = []  # the youngest first
        # Of the nodes above leaves that were gone through last: the slot there, and up to which leaves are expected.
        self._walks: dict[int, tuple[int, int]] = {}

    def forget(self) -> None:
        """Give back the memory of what was found."""
        self._spans = []

    def _span(self, key: tuple[int, ...]) -> _Span:
        for span in self._spans:
            if span.first <= key < span.end:
                return span
        span = self._descend(key)
        self._spans = [span, *self._spans[: _SPANS - 1]]
        return span

    def _descend(self, key: tuple[int, ...]) -> _Span:
        at, first = self.root, tuple(KEY_MIN)
        while True:
            block = self.blocks.read(at)
            if block.header.level == 0:
                return _Span(first, at.end_key or _TOP, block)
            slot = bisect_left(block.slots, (key[0], key[1], key[2] + 1)) - 1
            if slot > 0:
                first = block.slots[slot][:3]
            if block.header.level == 1:
                self._walk_on(at.logical, block, slot)
            at = block.child(max(slot, 0), at)

    def _walk_on(self, logical: int, node: Block, slot: int) -> None:
        """Expect the next leaves of *node*, which stands at *logical*, if the one in *slot* follows on the last."""
        before, expected = self._walks.pop(logical, (slot, 0))
        if before < slot <= before + _STRIDE and slot + _AHEAD // 2 >= expected:
            first, expected = max(slot + 1, expected), slot + 1 + _AHEAD
            self.blocks.volume.expect(pointer[3] for pointer in node.slots[first:expected])
        self._walks[logical] = slot, expected
        if len(self._walks) > _WALKS:
            del self._walks[next(iter(self._walks))]

    def find(self, key: Key) -> bytes | None:
        """Return the payload at exactly *key*, None if there is none."""
        leaf = self._span(key).leaf
        slot = bisect_left(leaf.slots, key)
        return leaf.payload(slot) if slot < len(leaf.slots) and leaf.slots[slot][:3] == key else None

    def floor(self, key: Key) -> tuple[Key, bytes] | None:
        """Return the item with the greatest key that is not above *key*, None when all are above."""
        leaf = self._span(key).leaf
        slot = bisect_left(leaf.slots, after(key)) - 1
        return (leaf.key(slot), leaf.payload(slot)) if slot >= 0 else None

    def items(
        self, first: Key = KEY_MIN, last: Key = KEY_MAX, *, bad: Report | None = None
    ) -> Iterator[tuple[Key, bytes]]:
        """Yield items with first <= key <= last in key order, both ends included."""
        if bad is not None:
            yield from super().items(first, last, bad=bad)
            return
        for leaf, slots in self.leaves(first, last):
            yield from self._leaf(leaf, slots.start, slots.stop, None)

    def leaves(self, first: Key, last: Key) -> Iterator[tuple[Block, range]]:
        """Yield the leaves with items first <= key <= last, and which of their slots those are."""
        at: tuple[int, ...] = first
        end = after(last)
        while at < end:
            span = self._span(at)
            slots = span.leaf.slots
            yield span.leaf, range(bisect_left(slots, at), bisect_left(slots, end))
            at = span.end

    def places(self, keys: Iterable[tuple[int, int, int]]) -> Iterator[tuple[Block, range] | None]:
        """Yield for each key the leaf that has it, and at which of its bytes the payload is; None where there is none.

        It is quickest for keys in order.
        """
        first: tuple[int, ...] = _TOP
        end: tuple[int, ...] = _TOP
        for key in keys:
            if not first <= key < end:
                first, end, leaf = self._span(key)
                slots = leaf.slots
            slot = bisect_left(slots, key)
            yield (leaf, leaf.bounds(slot)) if slot < len(slots) and slots[slot][:3] == key else None


def near(tree: Tree) -> Tree:
    """Return *tree* with a memory of where it was asked last; as it is, if it is more than blocks on a device."""
    return NearTree(tree.blocks, tree.root) if type(tree) is Tree else tree
