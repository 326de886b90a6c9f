"""Checksums collected for a commit, against a dict of sectors that has had the same done to it."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
from support.listed import ListedTree

from btrimg.ondisk.blocks import Key
from btrimg.ondisk.constants import ItemType, TreeId
from btrimg.trees.overlay import OverlayTree
from btrimg.write.csums import PendingCsums, longest_item

SECTOR, SIZE, NODESIZE = 4096, 8, 4096
PER_ITEM = longest_item(NODESIZE, SIZE) // SIZE
KEY = Key(TreeId.EXTENT_CSUM, ItemType.EXTENT_CSUM, 0)

# Runs shorter and longer than an item, close enough together to touch, overlap and cover each other.
RUNS = st.tuples(st.integers(0, 3 * PER_ITEM), st.integers(1, PER_ITEM + 9) | st.integers(1, 5))
CHANGES = st.lists(st.tuples(st.booleans(), RUNS), max_size=12)


def items_of(sums: dict[int, bytes]) -> dict[Key, bytes]:
    """Return the items of a tree that holds *sums*, by number of the sector, each run in one item."""
    items: dict[Key, bytes] = {}
    start = None
    for sector in sorted(sums):
        start = sector if start is None or sector - 1 not in sums else start
        key = KEY._replace(offset=start * SECTOR)
        items[key] = items.get(key, b"") + sums[sector]
    return items


def sums_in(tree: OverlayTree) -> dict[int, bytes]:
    """Return the sums that *tree* holds, by number of the sector; no item may touch the bytes of another."""
    found: dict[int, bytes] = {}
    for key, payload in tree.items():
        assert key._replace(offset=0) == KEY
        assert payload
        each = {key.offset // SECTOR + at: payload[SIZE * at : SIZE * at + SIZE] for at in range(len(payload) // SIZE)}
        assert found.keys().isdisjoint(each), "items overlap"
        found |= each
    return found


@given(st.dictionaries(st.integers(0, 4 * PER_ITEM), st.just(b"previous")), CHANGES, st.integers(0, 12))
def test_what_comes_later_counts(
    before: dict[int, bytes], changes: list[tuple[bool, tuple[int, int]]], at: int
) -> None:
    pending = PendingCsums(SIZE, SECTOR, NODESIZE)
    tree, expected = OverlayTree(ListedTree(items_of(before))), dict(before)
    for number, (puts, (first, count)) in enumerate(changes):
        if number == at:  # a commit in between changes nothing
            pending.apply(tree)
        if puts:
            sums = [b"%04d%04d" % (number, each) for each in range(count)]
            pending.put(first * SECTOR, b"".join(sums))
            expected.update(enumerate(sums, first))
        else:
            pending.drop(first * SECTOR, count * SECTOR)
            expected = {sector: kept for sector, kept in expected.items() if not first <= sector < first + count}
    pending.apply(tree)
    assert sums_in(tree) == expected
    assert pending.pending == 0


@given(st.lists(st.integers(1, 2 * PER_ITEM), max_size=12))
def test_neighbours_are_joined_up_to_the_longest_item(counts: list[int]) -> None:
    pending, tree = PendingCsums(SIZE, SECTOR, NODESIZE), OverlayTree(ListedTree({}))
    done = 0
    for count in counts:
        pending.put(done * SECTOR, bytes(SIZE * count))
        done += count
        assert pending.pending == SIZE * done
    pending.apply(tree)
    lengths = [len(payload) // SIZE for _, payload in tree.items()]
    assert sum(lengths) == done
    assert all(length == PER_ITEM for length in lengths[:-1])


def test_items_are_as_long_as_those_of_the_kernel() -> None:
    assert longest_item(16384, 4) == 4057 * 4
    assert longest_item(65536, 4) == 4096 * 4  # a page
    assert longest_item(4096, 32) == 122 * 32


def test_dropping_one_sum_of_very_many_moves_no_more_than_an_item() -> None:
    pending = PendingCsums(4, SECTOR, 16384)
    pending.put(0, bytes(4 << 20))
    pending.drop(12345 * SECTOR, SECTOR)
    tree = OverlayTree(ListedTree({}))
    pending.apply(tree)
    items = [(key.offset // SECTOR, len(payload) // 4) for key, payload in tree.items()]
    assert items[3:5] == [(3 * 4057, 12345 - 3 * 4057), (12346, 4 * 4057 - 12346)]
    assert [start + count for start, count in items[4:-1]] == [start for start, _ in items[5:]]
    assert all(right - left <= 4057 for left, right in pairwise(start for start, _ in items))
