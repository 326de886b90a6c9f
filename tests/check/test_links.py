"""Names and inodes in sums: all that does not match is looked at, and what does is not."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from btrimg.check import sums
from btrimg.check.links import file_types, links
from btrimg.ondisk.constants import FILE_TYPES
from btrimg.tables.leafscan import Gathered
from btrimg.tables.schema import INODES, NAME_SOURCES, NAMES

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from btrimg.check.links import Links

ITEM, INDEX, REF, EXTREF = range(len(NAME_SOURCES))
TO_INODE, TO_SUBVOLUME = 1, 132
FILE, DIRECTORY = 1, 2
REGULAR_MODE, DIRECTORY_MODE = 0o100644, 0o040755
TOP = 256


@dataclass(frozen=True)
class Name:
    """A row of ``names``, with the tree and whether the inode differs."""

    tree: int
    source: int
    parent: int
    inode: int
    name: int
    index: int = 0
    type: int = 0
    location_type: int = 0
    hash: int = 0
    expected_hash: int = 0
    name_length: int = 5
    differs: bool = True


@dataclass(frozen=True)
class Inode:
    """A row of ``inodes``."""

    tree: int
    inode: int
    nlink: int
    mode: int
    differs: bool = True


NAME_TYPES = {"parent": "u8", "inode": "u8", "index": "u8", "hash": "u8", "expected_hash": "u4", "name": "u8"} | {
    "source": "u1",
    "location_type": "u1",
    "type": "u1",
    "name_length": "u2",
}


def of_link(tree: int, parent: int, inode: int, name: int, *, file_type: int = FILE, source: int = REF) -> list[Name]:
    """Return the three rows of a name."""
    return [
        Name(
            tree,
            ITEM,
            parent,
            inode,
            name,
            0,
            file_type,
            TO_INODE,
            hash=name * 1000 + tree,
            expected_hash=name * 1000 + tree,
        ),
        Name(tree, INDEX, parent, inode, name, name + 1, file_type, TO_INODE),
        Name(tree, source, parent, inode, name, name + 1),
    ]


def a_tree(tree: int, directories: int = 12, files: int = 40) -> tuple[list[Name], list[Inode]]:
    """Return the rows of a tree in which all is well; every third file has two names."""
    names, inodes = [Name(tree, REF, TOP, TOP, 1)], [Inode(tree, TOP, 1, DIRECTORY_MODE)]
    numbers = [TOP, *range(300, 300 + directories)]
    for number in numbers[1:]:
        names += of_link(tree, numbers[(number * 7) % (number - 299)], number, number, file_type=DIRECTORY)
        inodes.append(Inode(tree, number, 1, DIRECTORY_MODE))
    for number in range(1000, 1000 + files):
        several = 2 if number % 3 == 0 else 1
        for each in range(several):
            parent = numbers[(number + 5 * each) % len(numbers)]
            names += of_link(tree, parent, number, number + 5000 * each, source=EXTREF if number % 7 == 0 else REF)
        inodes.append(Inode(tree, number, several, REGULAR_MODE))
    return names, inodes


def gathered(relation: Any, rows: Sequence[Any], types: dict[str, str]) -> Gathered:
    """Return rows as the scan has them: not all in order, and reached by their numbers."""
    half = len(rows) // 2
    order = [*range(half, len(rows)), *range(half)]
    place = {row: at for at, row in enumerate(order)}
    different = {name: np.array([getattr(rows[row], name) for row in order], kind) for name, kind in types.items()}
    numbers = np.array([place[row] for row in range(len(rows))], np.int64)
    return Gathered(relation, different, numbers, np.array([row.tree for row in rows], np.uint64))


def found_in(names: Sequence[Name], inodes: Sequence[Inode]) -> Links:
    return links(
        gathered(NAMES, names, NAME_TYPES),
        np.array([row.differs for row in names], np.bool_),
        gathered(INODES, inodes, {"inode": "u8", "nlink": "u4", "mode": "u4"}),
        np.array([row.differs for row in inodes], np.bool_),
        np.array([TOP], np.uint64),
    )


def rows_of(columns: dict[str, NDArray[Any]]) -> set[tuple[Any, ...]]:
    return set(zip(*(column.tolist() for column in columns.values()), strict=True))


def odd_directories(found: Links) -> set[tuple[int, int]]:
    return {(tree, inode) for tree, inode, *_, odd in rows_of(found.directories) if odd}


def plain_directories(names: Iterable[Name]) -> tuple[set[tuple[int, ...]], set[tuple[int, int]]]:
    """Return what directories hold, and those that are odd, name by name."""
    entries: dict[tuple[int, int], list[int]] = defaultdict(lambda: [0, 0])
    told: dict[tuple[int, int], list[Counter[Any]]] = defaultdict(lambda: [Counter() for _ in range(4)])
    for row in names:
        at = row.tree, row.parent
        entries[at][0] += row.source <= INDEX
        entries[at][1] += row.name_length * (row.source <= INDEX)
        if row.parent == row.inode and not row.location_type:
            continue
        entry, link = (row.inode, row.name, row.location_type, row.type), (row.inode, row.name, row.index)
        sums = told[at]
        if row.source <= INDEX:
            sums[row.source][entry] += 1
        if row.source == INDEX and row.location_type != TO_SUBVOLUME:
            sums[2][link] += 1
        if row.source > INDEX:
            sums[3][link] += 1
    odd = {at for at, sums in told.items() if sums[0] != sums[1] or sums[2] != sums[3]}
    return {(*at, *counts) for at, counts in entries.items() if counts[0]}, odd


def plain_ranges(names: Iterable[Name], inodes: Iterable[Inode]) -> set[tuple[int, int]]:
    """Return the ranges in which inodes and names differ, inode by inode."""
    types = {0o10: 1, 0o04: 2, 0o02: 3, 0o06: 4, 0o01: 5, 0o14: 6, 0o12: 7}
    links_of, types_of = Counter[tuple[int, int]](), Counter[tuple[int, int]]()
    for inode in inodes:
        if inode.differs:
            links_of[inode.tree, inode.inode] += inode.nlink
            if inode.inode != TOP:
                types_of[inode.tree, inode.inode] += inode.nlink * types.get(inode.mode >> 12, 256)
    for name in names:
        if name.differs and name.location_type != TO_SUBVOLUME:
            links_of[name.tree, name.inode] -= name.source > INDEX
            types_of[name.tree, name.inode] -= name.type * (name.source == ITEM)
    return {(tree, inode >> 8) for each in (links_of, types_of) for (tree, inode), count in each.items() if count}


def check(names: Sequence[Name], inodes: Sequence[Inode]) -> Links:
    """Return what is found, which is all that there is and no more."""
    found = found_in(names, inodes)
    held, odd = plain_directories(names)
    assert {row[:4] for row in rows_of(found.directories) if row[2]} == held
    assert odd_directories(found) == odd
    ranges = plain_ranges(names, inodes)
    assert rows_of(found.odd_ranges) == ranges
    kept = Counter(
        zip(*(found.names.different[each].tolist() for each in ("source", "parent", "inode", "name")), strict=True)  # type: ignore[union-attr]
    )
    assert len(found.differs) == len(found.names.rows) == sum(kept.values())
    wanted = Counter(
        (row.source, row.parent, row.inode, row.name)
        for row in names
        if (row.tree, row.parent) in odd or (row.tree, row.inode >> 8) in ranges or not row.differs
    )
    assert wanted <= kept
    return found


def test_where_all_is_well_only_the_top_directories_are_looked_at() -> None:
    (names, inodes), (more, others) = a_tree(5), a_tree(256)
    found = check([*names, *more], [*inodes, *others])
    assert odd_directories(found) == set()
    assert rows_of(found.odd_ranges) == set()
    assert found.names.different["inode"].tolist() == [TOP, TOP]  # type: ignore[union-attr]
    assert len(found.directories["inode"]) == 26


WRONG: dict[str, Any] = {
    "no item": (ITEM, None),
    "no index": (INDEX, None),
    "no reference": (REF, None),
    "another inode in the item": (ITEM, {"inode": 1001}),
    "another inode in the index": (INDEX, {"inode": 1001}),
    "another name in the reference": (REF, {"name": 77}),
    "another index": (REF, {"index": 77}),
    "another type in the item": (ITEM, {"type": DIRECTORY}),
    "another kind of what it leads to": (INDEX, {"location_type": TO_SUBVOLUME}),
    "in another directory": (ITEM, {"parent": 302}),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_directory_with_one_wrong_name_is_odd_and_no_other(wrong: str) -> None:
    names, inodes = a_tree(5)
    source, changed = WRONG[wrong]
    at = next(at for at, row in enumerate(names) if row.inode == 1003 and row.source == source)
    right = names[at]
    names[at : at + 1] = [] if changed is None else [replace(right, **changed)]
    found = check([*names, *a_tree(256)[0]], [*inodes, *a_tree(256)[1]])
    expected = {(5, right.parent)} | ({(5, 302)} if wrong == "in another directory" else set())
    assert odd_directories(found) == expected
    assert (256, right.parent) not in odd_directories(found)


def test_what_one_directory_lacks_and_another_has_too_much_of_does_not_come_to_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sums, "_BITS", 0)  # all share one sum
    names, inodes = a_tree(5)
    at = next(at for at, row in enumerate(names) if row.inode == 1003 and row.source == INDEX)
    names[at] = replace(names[at], parent=302)
    assert odd_directories(check(names, inodes)) >= {(5, 302)}
    names, inodes = a_tree(5)
    (at, row), (other, second) = ((at, row) for at, row in enumerate(inodes) if row.inode in (1001, 1300 - 290))
    inodes[at], inodes[other] = replace(row, nlink=row.nlink + 1), replace(second, nlink=second.nlink - 1)
    assert rows_of(check(names, inodes).odd_ranges) >= {(5, 1001 >> 8)}


@pytest.mark.parametrize("changed", [{"nlink": 7}, {"mode": DIRECTORY_MODE}, {"mode": 1 << 16 | REGULAR_MODE}])
def test_an_inode_that_is_not_as_its_names_say_is_in_an_odd_range(changed: dict[str, Any]) -> None:
    names, inodes = a_tree(5)
    at = next(at for at, row in enumerate(inodes) if row.inode == 1033)
    inodes[at] = replace(inodes[at], **changed)
    found = check(names, inodes)
    assert rows_of(found.odd_ranges) == {(5, 1033 >> 8)}
    inodes[at] = replace(inodes[at], differs=False)  # it was judged in another subvolume; its names are not counted
    names = [replace(row, differs=row.inode != 1033) for row in names]
    assert rows_of(check(names, inodes).odd_ranges) == set()


@pytest.mark.parametrize(
    "changed",
    [
        {"hash": 9, "expected_hash": 8},
        {"name_length": 0},
        {"name_length": 256},
        {"location_type": 96},
        {"location_type": TO_SUBVOLUME, "type": DIRECTORY},
        {"differs": False},
    ],
)
def test_a_name_that_is_looked_at_by_itself_is_kept(changed: dict[str, Any]) -> None:
    names, inodes = a_tree(5)
    both = [at for at, row in enumerate(names) if row.inode == 1002 and row.source <= INDEX]
    for at in both:  # so that the directory is not odd
        names[at] = replace(names[at], **changed)
    found = check(names, inodes)
    assert found.names.different["inode"].tolist().count(1002) >= 2  # type: ignore[union-attr]


def test_names_of_one_hash_in_one_directory_are_kept() -> None:
    names, inodes = a_tree(5)
    at = next(at for at, row in enumerate(inodes) if row.inode == 1002)
    inodes[at] = replace(inodes[at], nlink=inodes[at].nlink + 2)
    twice = [replace(row, hash=4, expected_hash=4) for each in (1, 2) for row in of_link(5, 305, 1002, each)]
    found = check(sorted([*twice, *names], key=lambda row: row.source), inodes)
    assert odd_directories(found) == set()
    assert sorted(found.names.different["name"].tolist()) == [1, 1, 2]  # type: ignore[union-attr]  # 1 is the top's


ROWS = st.builds(
    Name,
    st.sampled_from([5, 256]),
    st.sampled_from([ITEM, INDEX, REF, EXTREF]),
    st.integers(256, 258),
    st.integers(256, 258),
    st.integers(1, 2),
    st.integers(0, 1),
    st.integers(0, 2),
    st.sampled_from([0, TO_INODE, TO_SUBVOLUME]),
    hash=st.integers(0, 1),
    expected_hash=st.integers(0, 1),
    name_length=st.sampled_from([0, 1, 255, 256]),
    differs=st.booleans(),
)
INODE_ROWS = st.builds(
    Inode,
    st.sampled_from([5, 256]),
    st.sampled_from([256, 257, 258, 600]),
    st.integers(0, 2),
    st.sampled_from([REGULAR_MODE, DIRECTORY_MODE, 0, (1 << 32) - 1]),
    st.booleans(),
)


@given(st.lists(ROWS, max_size=12), st.lists(INODE_ROWS, max_size=6))
def test_what_does_not_match_is_found_and_no_more_whoever_shares_its_sum(
    names: list[Name], inodes: list[Inode]
) -> None:
    check(names, inodes)
    with pytest.MonkeyPatch.context() as patch:
        for bits in (0, 2):
            patch.setattr(sums, "_BITS", bits)
            patch.setattr(sums, "_ROWS_AT_ONCE", 3)
            check(names, inodes)


def test_no_entry_has_the_type_of_an_inode_whose_mode_cannot_be() -> None:
    found = file_types(np.arange(1 << 18, step=1 << 12, dtype=np.uint32)).tolist()
    kinds = {mode >> 12: file_type for mode, file_type in FILE_TYPES.items()}
    assert [kinds.get(kind, 256) for kind in range(len(found))] == found
