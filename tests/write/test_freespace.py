"""What the free space tree says of a block group, against a set of sectors."""

from __future__ import annotations

import random
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from btrimg.errors import CorruptError
from btrimg.ondisk.blocks import Key
from btrimg.ondisk.chunks import FreeSpaceInfo
from btrimg.ondisk.constants import ItemType
from btrimg.trees.overlay import EmptyTree, OverlayTree
from btrimg.write import freespace
from btrimg.write.blockgroups import without
from btrimg.write.freespace import SpaceRecord, toggle

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

SECTOR = 4096
START, SECTORS = 1 << 20, 300
LENGTH = SECTORS * SECTOR
BITMAP = 64  # sectors; the kernel's have 2,048
INFO = Key(START, ItemType.FREE_SPACE_INFO, LENGTH)


def new_tree() -> OverlayTree:
    return OverlayTree(EmptyTree(None, 10))  # type: ignore[arg-type]  # it has no blocks to read


def in_bitmaps(sectors: set[int]) -> OverlayTree:
    """Return a tree that says in bitmaps that *sectors* are free, as the kernel writes them."""
    tree = new_tree()
    count = sum(sector - 1 not in sectors for sector in sectors)
    tree.put(INFO, FreeSpaceInfo(count, 1).pack())
    for first in range(0, SECTORS, BITMAP):
        last = min(first + BITMAP, SECTORS)
        bits = bytearray(-(-(last - first) // 8))
        for sector in sectors & set(range(first, last)):
            bits[(sector - first) // 8] |= 1 << (sector - first) % 8
        tree.put(Key(START + first * SECTOR, ItemType.FREE_SPACE_BITMAP, (last - first) * SECTOR), bytes(bits))
    return tree


def in_extents(sectors: set[int]) -> OverlayTree:
    tree = new_tree()
    runs = list(runs_of(sectors))
    tree.put(INFO, FreeSpaceInfo(len(runs), 0).pack())
    for first, last in runs:
        tree.put(Key(START + first * SECTOR, ItemType.FREE_SPACE_EXTENT, (last - first) * SECTOR), b"")
    return tree


def runs_of(sectors: set[int]) -> Iterable[tuple[int, int]]:
    starts = sorted(sector for sector in sectors if sector - 1 not in sectors)
    ends = sorted(sector + 1 for sector in sectors if sector + 1 not in sectors)
    return zip(starts, ends, strict=True)


def load(tree: OverlayTree) -> SpaceRecord:
    return SpaceRecord.load(tree, START, LENGTH, SECTOR)


@pytest.mark.parametrize("few", [2, 200])
@pytest.mark.parametrize("make", [in_extents, in_bitmaps])
@given(seed=st.integers(0, 1 << 32))
def test_the_tree_after_an_update_is_as_if_written_anew(
    make: Callable[[set[int]], OverlayTree], few: int, seed: int
) -> None:
    rng = random.Random(seed)
    free = {sector for sector in range(SECTORS) if rng.random() < rng.random()}
    tree = make(free)
    record = load(tree)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(freespace, "_FEW", few)
        for _ in range(4):
            changed: set[int] = set()
            old = set(free)
            for _ in range(rng.randrange(6)):
                start = rng.randrange(SECTORS)
                end = min(start + rng.choice([1, 7, 100]), SECTORS)
                free ^= set(range(start, end))
                toggle(changed, START + start * SECTOR, START + end * SECTOR)
            assert record.update(tree, changed) == (len(free) - len(old)) * SECTOR
            assert list(tree.items()) == list(make(free).items())
            assert load(tree).edges == record.edges


def test_an_update_writes_only_what_changed() -> None:
    tree = in_bitmaps(set(range(0, SECTORS, 2)))
    record, before = load(tree), dict(tree.items())
    record.update(tree, {START + 66 * SECTOR, START + 67 * SECTOR})
    changed = [key for key, payload in tree.items() if payload != before[key]]
    assert changed == [INFO, Key(START + 64 * SECTOR, ItemType.FREE_SPACE_BITMAP, 64 * SECTOR)]


def test_a_new_block_group_has_extents() -> None:
    tree = new_tree()
    record = SpaceRecord(START, LENGTH, SECTOR)
    assert record.update(tree, {START, START + LENGTH}) == LENGTH
    assert list(tree.items()) == list(in_extents(set(range(SECTORS))).items())


def test_a_full_new_block_group_is_in_the_tree() -> None:
    tree = new_tree()
    assert SpaceRecord(START, LENGTH, SECTOR).update(tree, set()) == 0
    assert list(tree.items()) == [(INFO, FreeSpaceInfo(0, 0).pack())]


def _extent(start: int, length: int) -> Key:
    return Key(START + start, ItemType.FREE_SPACE_EXTENT, length)


@pytest.mark.parametrize(
    ("extents", "count", "says"),
    [
        ([_extent(0, 100)], 1, "cannot be from 1048576 to 1048676"),
        ([_extent(0, 8192), _extent(4096, 8192)], 2, "cannot be from 1052672 to 1060864"),
        ([_extent(0, 8192), _extent(8192, 8192)], 2, "cannot be from 1056768 to 1064960"),
        ([_extent(0, LENGTH + 4096)], 1, "cannot be from"),
        ([_extent(0, 0)], 1, "has an item"),
        ([_extent(0, 4096)], 2, "has 1 runs of free space, the free space tree says 2"),
    ],
)
def test_extents_that_cannot_be_are_refused(extents: list[Key], count: int, says: str) -> None:
    tree = new_tree()
    tree.put(INFO, FreeSpaceInfo(count, 0).pack())
    for key in extents:
        tree.put(key, b"")
    with pytest.raises(CorruptError, match=says):
        load(tree)


@pytest.mark.parametrize(
    ("start", "length", "payload", "says"),
    [
        (0, 256 * SECTOR, b"\xff" * 31, "no bitmap can be"),
        (SECTOR, 256 * SECTOR, bytes(32), "no bitmap can be"),
        (0, 256 * SECTOR, bytes(32), "do not reach its end"),
        (0, LENGTH, b"\xff" * 38, "has bits behind its end"),
        (0, 1 << 50, bytes(32), "no bitmap can be"),
    ],
)
def test_bitmaps_that_cannot_be_are_refused(start: int, length: int, payload: bytes, says: str) -> None:
    tree = new_tree()
    tree.put(INFO, FreeSpaceInfo(0, 1).pack())
    tree.put(Key(START + start, ItemType.FREE_SPACE_BITMAP, length), payload)
    with pytest.raises(CorruptError, match=says):
        load(tree)


def test_a_block_group_without_a_record_is_refused() -> None:
    with pytest.raises(CorruptError, match="block group 1048576 is not in the free space tree"):
        load(new_tree())


@given(edges=st.sets(st.integers(0, 40)).map(sorted), more=st.sets(st.integers(0, 40)).map(sorted))
def test_ranges_without_holes_are_those_of_sets(edges: list[int], more: list[int]) -> None:
    ranges, holes = (list(zip(each[::2], each[1::2], strict=False)) for each in (edges, more))
    left = {number for start, end in ranges for number in range(start, end)}
    left -= {number for start, end in holes for number in range(start, end)}
    found = without(ranges, holes)
    assert {number for start, end in found for number in range(start, end)} == left
    assert all(start < end for start, end in found)
    assert all(end <= start for (_, end), (start, _) in pairwise(found))
