"""Changes laid over a tree, against a dict that has had the same done to it."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.listed import ListedTree

from btrimg.errors import CorruptError, NotFoundError
from btrimg.ondisk.blocks import KEY_MAX, KEY_MIN, Key
from btrimg.trees.overlay import EmptyTree, OverlayTree

# Few keys, so that changes hit items; at the edges of the three parts of a key, so that neighbours differ in all.
EDGES = [
    KEY_MIN,
    Key(0, 0, 1),
    Key(0, 255, (1 << 64) - 1),
    Key(1, 0, 0),
    Key(1, 84, (1 << 64) - 1),
    Key(1, 85, 0),
    KEY_MAX,
]
KEYS = st.sampled_from(EDGES)
ITEMS = st.dictionaries(KEYS, st.binary(max_size=2))
CHANGES = st.lists(st.tuples(KEYS, st.none() | st.binary(max_size=2)))


def changed(items: dict[Key, bytes], changes: list[tuple[Key, bytes | None]]) -> tuple[OverlayTree, dict[Key, bytes]]:
    """Return a tree with *changes* laid over *items*, and what it should hold."""
    tree, expected = OverlayTree(ListedTree(items)), dict(items)
    for key, payload in changes:
        if payload is None:
            tree.delete(key)
            expected.pop(key, None)
        else:
            tree.put(key, payload)
            expected[key] = payload
    return tree, expected


@given(ITEMS, CHANGES, KEYS, KEYS)
def test_items_are_those_of_both_in_order(
    items: dict[Key, bytes], changes: list[tuple[Key, bytes | None]], first: Key, last: Key
) -> None:
    tree, expected = changed(items, changes)
    assert list(tree.items()) == sorted(expected.items())
    assert list(tree.items(first, last)) == sorted(item for item in expected.items() if first <= item[0] <= last)


@given(ITEMS, CHANGES, KEYS)
def test_get_gives_the_newest_payload(
    items: dict[Key, bytes], changes: list[tuple[Key, bytes | None]], key: Key
) -> None:
    tree, expected = changed(items, changes)
    if key in expected:
        assert tree.get(key) == expected[key]
    else:
        with pytest.raises(NotFoundError, match="no item"):
            tree.get(key)


@given(ITEMS, CHANGES, KEYS)
def test_floor_skips_what_is_deleted(
    items: dict[Key, bytes], changes: list[tuple[Key, bytes | None]], key: Key
) -> None:
    tree, expected = changed(items, changes)
    assert tree.floor(key) == max((item for item in expected.items() if item[0] <= key), default=None)


@given(ITEMS, CHANGES, CHANGES)
def test_overlays_stack_and_leave_their_base_alone(
    items: dict[Key, bytes], lower: list[tuple[Key, bytes | None]], upper: list[tuple[Key, bytes | None]]
) -> None:
    base, expected = changed(items, lower)
    top = OverlayTree(base)
    for key, payload in upper:
        top.put(key, payload) if payload is not None else top.delete(key)
    assert dict(base.items()) == expected
    _, expected = changed(expected, upper)
    assert dict(top.items()) == expected


def test_items_come_in_order_however_many_are_put_between_reads() -> None:
    chance = random.Random(3)
    tree, expected = OverlayTree(ListedTree({})), dict[Key, bytes]()
    for many in (10_000, 3, 3, 100, 9000, 50):
        for _ in range(many):
            key = Key(chance.randrange(3), 1, chance.randrange(1 << 20))
            payload = None if chance.random() < 0.2 else b"%d" % many
            if payload is None:
                tree.delete(key)
                expected.pop(key, None)
            else:
                tree.put(key, payload)
                expected[key] = payload
        first, last = Key(1, 1, 1000), Key(2, 1, 1 << 19)
        assert list(tree.items(first, last)) == sorted(item for item in expected.items() if first <= item[0] <= last)
        for key in (first, last, KEY_MAX, *chance.sample(sorted(expected), 5)):
            assert tree.floor(key) == max((item for item in expected.items() if item[0] <= key), default=None)
    assert tree.changes() == sorted(tree.changes())


def test_a_loop_may_change_the_tree_it_reads() -> None:
    tree = OverlayTree(ListedTree({Key(1, 1, offset): b"old" for offset in range(4)}))
    tree.put(Key(1, 1, 9), b"new")
    for key, payload in tree.items():
        tree.delete(key)
        tree.put(key._replace(objectid=2), payload)
    assert [tuple(key) for key, _ in tree.items()] == [(2, 1, offset) for offset in (0, 1, 2, 3, 9)]


def test_what_the_base_cannot_read_is_told() -> None:
    tree = OverlayTree(ListedTree({Key(1, 1, 0): b"a", Key(1, 1, 1): b"b"}, unreadable=Key(1, 1, 0)))
    tree.put(Key(1, 1, 2), b"c")
    faults: list[CorruptError] = []
    assert [payload for _, payload in tree.items(bad=faults.append)] == [b"b", b"c"]
    assert [str(fault) for fault in faults] == ["item (1, 1, 0)"]


def test_many_changes_are_sorted_once_and_few_inserted() -> None:
    tree, expected = OverlayTree(ListedTree({Key(5, 1, 0): b"below"})), {Key(5, 1, 0): b"below"}
    for number in range(500):
        key = Key(number * 7919 % 500, 1, 0)
        tree.put(key, b"%d" % number)
        expected[key] = b"%d" % number
        if number % 200 == 0:
            assert list(tree.items()) == sorted(expected.items())
    assert tree.changes() == sorted(expected.items())
    assert tree.pending == 500


def test_rebase_forgets_the_changes_that_the_new_base_has() -> None:
    tree = OverlayTree(EmptyTree(ListedTree({}).blocks, 5))
    assert list(tree.items()) == []
    tree.put(Key(1, 1, 1), b"new")
    tree.delete(Key(2, 1, 1))
    assert tree.changes() == [(Key(1, 1, 1), b"new"), (Key(2, 1, 1), None)]
    tree.rebase(ListedTree({Key(1, 1, 1): b"new"}))
    assert tree.pending == 0
    assert list(tree.items()) == [(Key(1, 1, 1), b"new")]
