"""The changes of one tree merged into new blocks: only what they touch is read, and nothing is overwritten.

A plan is made first, without addresses: sizes do not depend on them. It says how many blocks the tree needs, which old
ones they replace, and which file extents came and went, so that space and references can be settled before any byte
is written. An empty tree is the same case with nothing to read.
"""

from __future__ import annotations

from bisect import bisect_left
from itertools import pairwise

from btrimg.errors import UnsupportedError
from btrimg.named import NamedTuple
from btrimg.ondisk.blocks import Item, Key, KeyPtr
from btrimg.ondisk.constants import MAX_LEVEL, ItemType
from btrimg.trees.block import Pointer, is_subvolume
from btrimg.trees.tree import after
from btrimg.write.pack import cut, leaf, node

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import TypeAlias

    from btrimg.trees.block import Block, BlockReader
    from btrimg.trees.overlay import OverlayTree
    from btrimg.write.pack import Stamp

    Changes = Sequence[tuple[Key, bytes | None]]
    Child: TypeAlias = "tuple[int, int] | Draft"  # an old block as (logical, generation), or a new one

_EXTENT_DATA = int(ItemType.EXTENT_DATA)  # a number: it is compared with the key of every item


class Replaced(NamedTuple):
    """An old block in whose place new ones stand; parents come before their children."""

    pointer: Pointer
    block: Block
    root: bool


class ExtentChange(NamedTuple):
    """An EXTENT_DATA item that was put, replaced or deleted."""

    key: Key
    old: bytes | None
    new: bytes | None


class Draft:
    """A new block without an address yet."""

    __slots__ = ("children", "keys", "level", "logical", "payloads")

    def __init__(self, level: int, keys: list[Key], payloads: list[bytes], children: list[Child]) -> None:
        self.level, self.keys = level, keys
        self.payloads, self.children = payloads, children  #: of a leaf, of a node
        self.logical = 0


class Plan(NamedTuple):
    """What the merge of one tree comes to."""

    tree_id: int
    drafts: list[Draft]  #: leaves first, the root last; children before parents
    replaced: list[Replaced]
    extents: list[ExtentChange]  #: only of trees of files

    def place(self, addresses: Sequence[int], generation: int) -> Pointer:
        """Give each draft its address, and return the promise of the new root."""
        for draft, logical in zip(self.drafts, addresses, strict=True):
            draft.logical = logical
        root = self.drafts[-1]
        return Pointer(root.logical, root.level, generation, self.tree_id)

    def blocks(self, stamp: Stamp) -> Iterator[tuple[int, bytes]]:
        """Yield (logical, bytes) of every new block, leaves first; all drafts have their addresses."""
        for draft in self.drafts:
            if draft.level == 0:
                yield draft.logical, leaf(draft.keys, draft.payloads, self.tree_id, draft.logical, stamp)
                continue
            pointers = [
                (child.logical, stamp.generation) if isinstance(child, Draft) else child for child in draft.children
            ]
            yield draft.logical, node(draft.keys, pointers, draft.level, self.tree_id, draft.logical, stamp)


def plan_merge(tree: OverlayTree, room: int, *, least: int = 0) -> Plan:
    """Return how to merge the pending changes of *tree* into blocks with *room* bytes for slots and payloads.

    *least* blocks come out, or more, for who has allocated that many: leaves are split for it, as far as they can be.
    Raises BlockError when a block that must change cannot be read, UnsupportedError when an item is too large.
    """
    merge = _Merge(tree, room)
    plan = merge.plan(0)
    while len(plan.drafts) < least and merge.can_split(plan):
        plan = merge.plan(merge.splits + least - len(plan.drafts))
    return plan


class _Touched:
    """An old block that changes[first:last] fall into; *parent* points to the block above, None for the root."""

    __slots__ = ("block", "children", "drafts", "first", "last", "parent", "pointer", "slot")

    def __init__(
        self, pointer: Pointer, block: Block, parent: Pointer | None, slot: int, first: int, last: int
    ) -> None:
        self.pointer, self.block, self.parent, self.slot = pointer, block, parent, slot
        self.first, self.last = first, last
        self.children: list[_Touched] = []
        self.drafts: list[Draft] = []  #: that stand in its place, or in that of the whole run it leads


class _Merge:
    """One merge: the old blocks that are touched, read once, and as many plans as the caller needs."""

    def __init__(self, tree: OverlayTree, room: int) -> None:
        self.tree_id = tree.root.owner or 0
        self.room, self.splits = room, 0
        self._files = is_subvolume(self.tree_id)
        self._changes: Changes = tree.changes()
        self._extents: list[ExtentChange] = []
        self._levels = self._descend(tree.blocks, tree.root) if tree.root.logical else []
        self._runs = list(self._merge_leaves())

    def _descend(self, blocks: BlockReader, root: Pointer) -> list[list[_Touched]]:
        """Return the blocks that changes fall into, by level from the root to the leaves."""
        levels = [[_Touched(root, blocks.read(root), None, 0, 0, len(self._changes))]]
        while levels[-1][0].block.header.level:
            below = []
            for parent in levels[-1]:
                for slot, first, last in self._parts(parent):
                    pointer = parent.block.child(slot, parent.pointer)
                    child = _Touched(pointer, blocks.read(pointer), parent.pointer, slot, first, last)
                    parent.children.append(child)
                    below.append(child)
            levels.append(below)
        return levels

    def _parts(self, touched: _Touched) -> Iterator[tuple[int, int, int]]:
        """Yield (slot, first, last) of every child that changes[first:last] fall into; the root has always one."""
        slots, changes = touched.block.slots, self._changes
        if touched.first == touched.last:
            yield 0, touched.first, touched.last
        at = touched.first
        while at < touched.last:
            slot = max(bisect_left(slots, after(changes[at][0])) - 1, 0)
            last = touched.last
            if slot + 1 < len(slots):
                last = bisect_left(changes, (slots[slot + 1][:3],), at, touched.last)
            yield slot, at, last
            at = last

    def _merge_leaves(self) -> Iterator[tuple[_Touched | None, list[Key], list[bytes]]]:
        """Yield every run of neighbouring touched leaves: the first of them, and the items that they are to hold."""
        if not self._levels:
            keys, payloads = list[Key](), list[bytes]()
            self._append(self._changes, keys, payloads)
            yield None, keys, payloads
            return
        for run in _runs(self._levels[-1]):
            keys, payloads = [], []
            for touched in run:
                self._merge_leaf(touched, keys, payloads)
            yield run[0], keys, payloads

    def _merge_leaf(self, touched: _Touched, keys: list[Key], payloads: list[bytes]) -> None:
        """Append the items of a leaf, with its changes made, to *keys* and *payloads*."""
        block, slots, changes = touched.block, touched.block.slots, self._changes
        slot, at = 0, touched.first
        while at < touched.last:
            stop = bisect_left(slots, changes[at][0], slot)
            _copy(block, slot, stop, keys, payloads)
            slot = stop
            # Up to the next old item, changes have nothing to replace or delete.
            new = at
            at = bisect_left(changes, (slots[stop][:3],), at, touched.last) if stop < len(slots) else touched.last
            self._append(changes[new:at], keys, payloads)
            if at < touched.last and changes[at][0] == slots[stop][:3]:
                key, payload = changes[at]
                if payload is not None:
                    keys.append(key)
                    payloads.append(payload)
                if self._files and key[1] == _EXTENT_DATA:
                    self._extents.append(ExtentChange(key, block.payload(stop), payload))
                slot, at = stop + 1, at + 1
        _copy(block, slot, len(slots), keys, payloads)

    def _append(self, changes: Changes, keys: list[Key], payloads: list[bytes]) -> None:
        """Append changes that stand where no item was: what they delete is not there."""
        new = [(key, payload) for key, payload in changes if payload is not None]
        keys += [key for key, _ in new]
        payloads += [payload for _, payload in new]
        if self._files:
            self._extents += [ExtentChange(key, None, payload) for key, payload in new if key[1] == _EXTENT_DATA]

    @staticmethod
    def can_split(plan: Plan) -> bool:
        """Return whether a leaf of *plan* has more than one item."""
        return any(len(draft.keys) > 1 for draft in plan.drafts if draft.level == 0)

    def plan(self, splits: int) -> Plan:
        """Return the plan in which *splits* leaves more than needed are split in two."""
        self.splits = splits
        drafts: list[Draft] = []
        left = splits
        for first, keys, payloads in self._runs:
            ends = cut([*map(Item.SIZE.__add__, map(len, payloads))], self.room)
            starts = [0, *ends]
            for _ in range(min(left, len(keys) - len(ends))):
                starts = _split_largest(starts)
                left -= 1
            leaves = [Draft(0, keys[start:end], payloads[start:end], []) for start, end in pairwise(starts)]
            drafts += leaves
            if first:
                first.drafts = leaves
        top = drafts
        for level in reversed(self._levels[:-1]):
            top = [draft for run in _runs(level) for draft in self._merge_nodes(run)]
            drafts = drafts + top
        return Plan(self.tree_id, self._crowned(top, drafts), self._replaced(), self._extents)

    def _merge_nodes(self, run: Sequence[_Touched]) -> list[Draft]:
        """Return the nodes for a run of neighbouring touched ones; children that no change fell into stay."""
        entries: list[tuple[Key, Child]] = []
        for touched in run:
            slot = 0
            for child in touched.children:
                entries += _old_entries(touched.block, slot, child.slot)
                entries += [(draft.keys[0], draft) for draft in child.drafts]
                slot = child.slot + 1
            entries += _old_entries(touched.block, slot, len(touched.block))
            touched.drafts = []
        run[0].drafts = self._nodes(run[0].block.header.level, entries)
        return run[0].drafts

    def _nodes(self, level: int, entries: list[tuple[Key, Child]]) -> list[Draft]:
        if level >= MAX_LEVEL:
            raise UnsupportedError(f"tree {self.tree_id} would get more than {MAX_LEVEL} levels")
        starts = [0, *cut([KeyPtr.SIZE] * len(entries), self.room)]
        return [
            Draft(level, [key for key, _ in entries[start:end]], [], [child for _, child in entries[start:end]])
            for start, end in pairwise(starts)
        ]

    def _crowned(self, top: list[Draft], drafts: list[Draft]) -> list[Draft]:
        """Return *drafts*, of which *top* are those of the highest level, with one root at the end."""
        if not top:
            return [Draft(0, [], [], [])]
        while len(top) > 1:
            top = self._nodes(top[0].level + 1, [(draft.keys[0], draft) for draft in top])
            drafts = drafts + top
        while len(drafts[-1].children) == 1 and isinstance(drafts[-1].children[0], Draft):
            drafts = drafts[:-1]
        return drafts

    def _replaced(self) -> list[Replaced]:
        return [
            Replaced(touched.pointer, touched.block, touched.parent is None)
            for level in self._levels
            for touched in level
        ]


def _runs(touched: Sequence[_Touched]) -> Iterator[list[_Touched]]:
    """Yield the touched blocks of one level in groups that are neighbours below the same parent."""
    run: list[_Touched] = []
    for each in touched:
        if run and (each.parent is not run[-1].parent or each.slot != run[-1].slot + 1):
            yield run
            run = []
        run.append(each)
    yield run


def _copy(block: Block, start: int, end: int, keys: list[Key], payloads: list[bytes]) -> None:
    """Append some items of a leaf to *keys* and *payloads*."""
    block_keys, block_payloads = block.items()
    keys += block_keys[start:end]
    payloads += block_payloads[start:end]


def _old_entries(block: Block, start: int, end: int) -> list[tuple[Key, Child]]:
    keys, pointers = block.entries()
    return list(zip(keys[start:end], pointers[start:end], strict=True))


def _split_largest(starts: list[int]) -> list[int]:
    """Return the boundaries with one more, in the middle of the block with the most items."""
    widest = max(range(len(starts) - 1), key=lambda index: starts[index + 1] - starts[index])
    middle = (starts[widest] + starts[widest + 1]) // 2
    return [*starts[: widest + 1], middle, *starts[widest + 1 :]]
