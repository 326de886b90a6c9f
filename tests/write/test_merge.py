"""A tree merged again and again, against a dict, with every block judged as a reader judges it."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from btrimg.errors import UnsupportedError
from btrimg.ondisk.blocks import Item, Key, KeyPtr
from btrimg.ondisk.csum import algorithm
from btrimg.trees.block import BlockReader
from btrimg.trees.overlay import EmptyTree, OverlayTree
from btrimg.trees.tree import Tree
from btrimg.write.merge import plan_merge
from btrimg.write.pack import Stamp, cut

if TYPE_CHECKING:
    from collections.abc import Iterator

    from btrimg.write.merge import Plan

NODESIZE = 4096
STAMP = Stamp(b"f" * 16, b"c" * 16, 1, NODESIZE, algorithm(0))
KEYS = st.builds(Key, st.integers(0, 60), st.sampled_from((1, 12, 84, 108)), st.sampled_from((0, 1, (1 << 64) - 1)))
PAYLOADS = st.integers(0, 1500).map(lambda size: bytes([size % 256]) * size)


class MemoryVolume:
    """Tree blocks in memory, read as those of a volume are."""

    nodesize, csum = NODESIZE, STAMP.csum

    def __init__(self) -> None:
        self.stored: dict[int, bytes] = {}
        self.free = itertools.count(1 << 20, NODESIZE)

    def candidates(self, logical: int, length: int) -> Iterator[bytes]:
        yield self.stored[logical]

    def warn(self, message: str) -> None:
        raise AssertionError(message)


class Grown(NamedTuple):
    volume: MemoryVolume
    tree: OverlayTree

    def merge(self, generation: int, least: int = 0) -> Plan:
        """Merge what is pending, as a commit does, and judge the new tree."""
        plan = plan_merge(self.tree, STAMP.room, least=least)
        root = plan.place([next(self.volume.free) for _ in plan.drafts], generation)
        for logical, data in plan.blocks(STAMP._replace(generation=generation)):
            assert len(data) == NODESIZE
            self.volume.stored[logical] = data
        self.tree.rebase(Tree(self.tree.blocks, root))
        return plan


def new_tree(tree_id: int = 256) -> Grown:
    volume = MemoryVolume()
    blocks = BlockReader(volume, {STAMP.fsid})  # type: ignore[arg-type]
    return Grown(volume, OverlayTree(EmptyTree(blocks, tree_id)))


def blocks_below(grown: Grown) -> set[int]:
    """Return the addresses of all blocks of the tree, which the reader verifies against their parents' promises."""
    found, pending = set(), [grown.tree.root]
    while pending:
        pointer = pending.pop()
        block = grown.tree.blocks.read(pointer)
        found.add(pointer.logical)
        if block.header.level:
            pending += block.children(range(len(block)), pointer)
        else:
            ends = [STAMP.room, *(slot[3] for slot in block.slots)]
            assert all(slot[3] + slot[4] == end for slot, end in zip(block.slots, ends, strict=False))
    return found


@settings(max_examples=60)
@given(st.lists(st.tuples(st.dictionaries(KEYS, st.none() | PAYLOADS, max_size=30), st.integers(0, 9)), max_size=5))
def test_a_merged_tree_holds_what_was_put(rounds: list[tuple[dict[Key, bytes | None], int]]) -> None:
    grown, expected, live = new_tree(), dict[Key, bytes](), set[int]()
    for generation, (changes, more) in enumerate(rounds, 1):
        before = dict(expected)
        for key, payload in changes.items():
            if payload is None:
                grown.tree.delete(key)
                expected.pop(key, None)
            else:
                grown.tree.put(key, payload)
                expected[key] = payload
        plan = grown.merge(generation, least=more)
        assert list(grown.tree.items()) == sorted(expected.items())
        assert len(plan.drafts) >= more or all(len(draft.keys) <= 1 for draft in plan.drafts if draft.level == 0)
        replaced = {old.pointer.logical for old in plan.replaced}
        assert replaced <= live
        live = live - replaced | {draft.logical for draft in plan.drafts}
        assert blocks_below(grown) == live
        told = {change.key: (change.old, change.new) for change in plan.extents}
        for key in before.keys() | expected.keys():
            if key.type == 108 and before.get(key) != expected.get(key):
                assert told[key] == (before.get(key), expected.get(key))


def test_a_change_replaces_only_the_blocks_on_its_way() -> None:
    grown = new_tree()
    for number in range(20_000):
        grown.tree.put(Key(number, 1, 0), b"x" * 100)
    first = grown.merge(1)
    assert grown.tree.root.level == 2
    packed = [draft for draft in first.drafts if draft.level == 0]
    assert all(len(draft.keys) == STAMP.room // 125 for draft in packed[:-2])
    grown.tree.put(Key(10_000, 1, 1), b"new" * 50)
    plan = grown.merge(2)
    assert [old.block.header.level for old in plan.replaced] == [2, 1, 0]
    assert len(plan.drafts) == 5  # the leaf and the node were full, and are two each now
    for number in range(20_000):
        grown.tree.delete(Key(number, 1, 0))
    plan = grown.merge(3)
    assert [draft.level for draft in plan.drafts] == [0]
    assert list(grown.tree.items()) == [(Key(10_000, 1, 1), b"new" * 50)]


def test_an_item_larger_than_a_block_is_refused() -> None:
    for keys in ((1,), (0, 1)):
        grown = new_tree()
        for key in keys:
            grown.tree.put(Key(key, 1, 0), bytes(NODESIZE if key else 10))
        with pytest.raises(UnsupportedError, match="does not fit a tree block"):
            plan_merge(grown.tree, STAMP.room)


@given(st.lists(st.integers(1, 1000), min_size=1, max_size=200))
def test_cut_packs_in_order_and_fills(sizes: list[int]) -> None:
    room, ends = 1000, [0, *cut(sizes, 1000)]
    assert ends[-1] == len(sizes)
    for start, end in itertools.pairwise(ends):
        assert start < end
        assert sum(sizes[start:end]) <= room
    for start, end in itertools.pairwise(ends[:-2]):
        assert sum(sizes[start : end + 1]) > room


def test_slots_and_pointers_are_as_wide_as_on_disk() -> None:
    assert (Item.SIZE, KeyPtr.SIZE) == (25, 33)
