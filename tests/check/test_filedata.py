"""File extents beside inodes and checksums: all that rules may find fault with is looked at, and little else."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import astuple, dataclass, replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from btrimg.check.filedata import file_data
from btrimg.filesystem.columns import COMPRESSED, HOLE, INLINE, PREALLOC, REGULAR
from btrimg.filesystem.extents import OFFSET_MAX
from btrimg.ondisk.constants import Incompat
from btrimg.tables.leafscan import Gathered
from btrimg.tables.schema import CSUMS, FILE_EXTENTS, INODES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from btrimg.check.filedata import FileData

SECTOR, NODESIZE, LAST = 4096, 16384, 50
FILE_MODE, DIRECTORY_MODE, SYMLINK_MODE = 0o100644, 0o040755, 0o120777
MIB = 1 << 20


@dataclass(frozen=True)
class Extent:
    """A row of ``file_extents``, with its tree."""

    tree: int
    inode: int
    offset: int
    length: int = SECTOR
    kind: int = REGULAR
    compression: int = 0
    extent: int = MIB
    extent_length: int = SECTOR
    extent_offset: int = 0
    ram_bytes: int = SECTOR
    generation: int = 7
    inline_stored: int = 0
    inline_ram_bytes: int = 0


@dataclass(frozen=True)
class Inode:
    """A row of ``inodes``."""

    tree: int
    inode: int
    nbytes: int
    nlink: int = 1
    mode: int = FILE_MODE
    flags: int = 0
    differs: bool = True


EXTENT_TYPES = {"inode": "u8", "kind": "u1", "compression": "u1", "generation": "u8", "inline_stored": "u4"} | {
    "inline_ram_bytes": "u8"
}
INODE_TYPES = {"inode": "u8", "nbytes": "u8", "nlink": "u4", "mode": "u4", "flags": "u8"}


def gathered(relation: Any, rows: Sequence[Any], types: dict[str, str]) -> Gathered:
    """Return rows as the scan has them: those of a tree together, reached by numbers that are not in order."""
    rows = sorted(rows, key=lambda row: row.tree)
    names = list(rows[0].__dataclass_fields__) if rows else [column.name for column in relation.columns]
    different = {
        name: np.array([getattr(row, name) for row in rows[::-1]], types.get(name, "i8"))
        for name in names
        if name != "tree"
    }
    numbers = np.arange(len(rows))[::-1].copy()
    return Gathered(relation, different, numbers, np.array([row.tree for row in rows], np.uint64))


def found_in(
    extents: Sequence[Extent], inodes: Sequence[Inode], summed: Sequence[tuple[int, int]], *, holes: bool = True
) -> FileData:
    inodes = sorted(inodes, key=lambda row: row.tree)
    superblock: Any = SimpleNamespace(
        incompat_flags=int(Incompat.NO_HOLES) if holes else 0, sectorsize=SECTOR, nodesize=NODESIZE, generation=LAST
    )
    logical, length = (np.array(column, np.uint64) for column in (zip(*summed, strict=True) if summed else ((), ())))
    csums = Gathered(
        CSUMS, {"logical": logical, "length": length}, np.arange(len(summed)), np.full(len(summed), 7, "u8")
    )
    return file_data(
        gathered(FILE_EXTENTS, extents, EXTENT_TYPES),
        gathered(INODES, [replace(row, differs=False) for row in inodes], INODE_TYPES),
        np.array([row.differs for row in inodes], np.bool_),
        csums,
        superblock,
    )


def kept(found: FileData) -> Counter[tuple[int, ...]]:
    """Return (tree, inode, offset) of what is kept."""
    columns: Any = found.extents.different
    rows = zip(found.extents.trees.tolist(), columns["inode"].tolist(), columns["offset"].tolist(), strict=True)
    return Counter(rows)


def ranges(found: FileData) -> set[tuple[int, int]]:
    return set(zip(found.odd_sizes["subvolume"].tolist(), found.odd_sizes["range"].tolist(), strict=True))


def a_tree(tree: int) -> tuple[list[Extent], list[Inode]]:
    """Return the rows of a tree in which all is well: files of one to three extents, of every kind but preallocated."""
    extents, inodes = [], [Inode(tree, 256, 0, mode=DIRECTORY_MODE)]
    for number in range(300, 330):
        rows = [
            Extent(tree, number, SECTOR * at, extent=MIB + SECTOR * (3 * number - 900 + at))
            for at in range(1 + number % 3)
        ]
        if number % 5 == 0:
            rows[-1] = replace(rows[-1], kind=COMPRESSED, compression=1, length=SECTOR, ram_bytes=2 * SECTOR)
        if number % 7 == 0:
            rows.append(Extent(tree, number, SECTOR * len(rows), 3 * SECTOR, HOLE, 0, 0, 0, 0, 0, 0))
        size = sum(row.length for row in rows if row.kind != HOLE)
        extents += rows
        inodes.append(Inode(tree, number, size))
    extents.append(Extent(tree, 400, 0, 90, INLINE, 0, 0, 0, 0, 0, 0, 90, 90))
    inodes.append(Inode(tree, 400, 90, mode=SYMLINK_MODE))
    extents.append(Extent(tree, 401, 0, 90, INLINE, 0, 0, 0, 0, 0, 0, 90, 90))
    extents.append(Extent(tree, 401, SECTOR, extent=MIB + 100 * SECTOR))
    inodes.append(Inode(tree, 401, 90 + SECTOR))
    return extents, inodes


HOLE_OF_NOBODY = Extent(5, 600, 0, SECTOR, HOLE, 0, 0, 0, 0, 0, 0)  # without bytes, so that all sizes are right


ALL = [(MIB, 2 * MIB)]


def test_where_all_is_well_only_what_a_symlink_has_is_looked_at() -> None:
    (extents, inodes), (more, others) = a_tree(5), a_tree(256)
    found = found_in([*extents, *more], [*inodes, *others], ALL)
    assert kept(found) == Counter({(5, 400, 0): 1, (256, 400, 0): 1})
    assert ranges(found) == set()


def test_without_the_feature_no_holes_everything_is_looked_at() -> None:
    extents, inodes = a_tree(5)
    found = found_in(extents, inodes, ALL, holes=False)
    assert sum(kept(found).values()) == len(extents)
    assert ranges(found) == set()


WRONG: dict[str, dict[str, Any]] = {
    "generation": {"generation": LAST + 1},
    "prealloc": {"kind": PREALLOC},
    "unaligned extent": {"extent": MIB + 1},
    "unaligned skip": {"extent_offset": 512},
    "unaligned ram_bytes": {"ram_bytes": SECTOR + 1},
    "unaligned size on disk": {"extent_length": SECTOR - 1},
    "inline that is longer than it says": {"kind": INLINE, "inline_stored": 90, "inline_ram_bytes": 80},
    "inline without bytes": {"kind": INLINE},
    "inline of more than a sector": {"kind": INLINE, "inline_stored": SECTOR, "inline_ram_bytes": SECTOR},
    "inline that is too long unpacked": {
        "kind": INLINE,
        "compression": 1,
        "inline_stored": 9,
        "inline_ram_bytes": SECTOR + 1,
    },
    "without checksums": {"extent": 9 * MIB},
    "half without checksums": {"extent": 3 * MIB - SECTOR, "kind": COMPRESSED, "extent_length": 2 * SECTOR},
    "before all checksums": {"extent": SECTOR},
    "last sector": {"offset": OFFSET_MAX - SECTOR},
}


@pytest.mark.parametrize("wrong", WRONG)
def test_an_extent_that_may_be_wrong_is_looked_at(wrong: str) -> None:
    extents, inodes = a_tree(5)
    at = next(at for at, row in enumerate(extents) if row.inode == 302 and row.offset == 0 + SECTOR)
    extents[at] = replace(extents[at], **WRONG[wrong])
    found = kept(found_in(extents, inodes, ALL))
    assert (5, 302, extents[at].offset) in found
    assert not any((5, 300 + other, 0) in found for other in (1, 3, 4))


def test_of_an_extent_that_is_preallocated_somewhere_every_use_is_looked_at() -> None:
    extents, inodes = a_tree(5)
    (at,) = (at for at, row in enumerate(extents) if row.inode == 303)
    extents.append(Extent(5, 500, 0, kind=PREALLOC, extent=extents[at].extent))
    inodes.append(Inode(5, 500, SECTOR))
    assert set(kept(found_in(extents, inodes, ALL))) == {(5, 303, 0), (5, 500, 0), (5, 400, 0)}


@pytest.mark.parametrize("change", [{"flags": 1}, {"mode": DIRECTORY_MODE, "nbytes": 0}, {"mode": SYMLINK_MODE}, None])
def test_what_an_inode_may_not_have_is_looked_at(change: dict[str, Any] | None) -> None:
    extents, inodes = a_tree(5)
    at = next(at for at, row in enumerate(inodes) if row.inode == 305)
    inodes[at : at + 1] = [] if change is None else [replace(inodes[at], **change)]
    found = found_in([*extents, *a_tree(256)[0]], [*inodes, *a_tree(256)[1]], ALL)
    assert {(5, 305, SECTOR * number) for number in range(3)} <= set(kept(found))
    assert not any(tree == 256 and inode != 400 for tree, inode, _ in kept(found))


@pytest.mark.parametrize("moved", [-SECTOR, SECTOR])
def test_a_file_with_a_gap_or_an_overlap_is_looked_at_as_a_whole(moved: int) -> None:
    extents, inodes = a_tree(5)
    at = next(at for at, row in enumerate(extents) if row.inode == 302 and row.offset == 2 * SECTOR)
    extents[at] = replace(extents[at], offset=2 * SECTOR + moved)
    found = kept(found_in(extents, inodes, ALL))
    assert {(5, 302, 0), (5, 302, SECTOR), (5, 302, 2 * SECTOR + moved)} <= set(found)
    assert sum(inode == 302 for _, inode, _ in found.elements()) == 3
    assert {inode for _, inode, _ in found} == {302, 400}


def test_what_is_of_no_inode_is_looked_at() -> None:
    extents, inodes = a_tree(5)
    for strays in ([HOLE_OF_NOBODY], [replace(HOLE_OF_NOBODY, tree=300)]):
        found = kept(found_in([*extents, *strays], inodes, ALL))
        assert set(found) == {(5, 400, 0), (strays[0].tree, 600, 0)}


def test_an_inode_that_was_judged_in_another_subvolume_is_not_judged_again() -> None:
    extents, inodes = a_tree(5)
    found = found_in([*extents, HOLE_OF_NOBODY], [*inodes, Inode(5, 600, 7 * MIB, flags=1, differs=False)], ALL)
    assert set(kept(found)) == {(5, 400, 0)}
    assert ranges(found) == set()


def test_rows_of_a_file_may_come_apart() -> None:
    extents, inodes = a_tree(5)
    at = next(at for at, row in enumerate(extents) if row.inode == 302)
    found = found_in([*extents[:at], *extents[at + 1 :], extents[at]], inodes, ALL)
    assert set(kept(found)) == {(5, 400, 0)}
    assert extents[at + 1].inode == 302
    inodes = [replace(row, nbytes=2 * SECTOR) if row.inode == 302 else row for row in inodes]
    found = found_in([*extents[: at + 1], *extents[at + 3 :], extents[at + 2]], inodes, ALL)  # without the second
    assert {(5, 302, 0), (5, 302, 2 * SECTOR)} <= set(kept(found))


def test_the_last_sector_that_a_file_can_have_is_looked_at() -> None:
    extents, inodes = a_tree(5)
    at = next(at for at, row in enumerate(extents) if row.inode == 303)
    extents[at] = replace(extents[at], offset=OFFSET_MAX - SECTOR)
    assert set(kept(found_in(extents, inodes, ALL))) == {(5, 303, OFFSET_MAX - SECTOR), (5, 400, 0)}


def test_checksums_may_overlap_and_a_compressed_extent_needs_those_of_all_of_it() -> None:
    packed = Extent(5, 300, 0, SECTOR, COMPRESSED, 1, 8 * SECTOR, 2 * SECTOR, SECTOR, 3 * SECTOR)
    inodes = [Inode(5, 300, SECTOR)]
    for summed in ([(8 * SECTOR, 2 * SECTOR)], [(8 * SECTOR, SECTOR), (9 * SECTOR, SECTOR)]):
        assert set(kept(found_in([packed], inodes, summed))) == set()
    overlapping = [(0, 20 * SECTOR), (SECTOR, SECTOR), (30 * SECTOR, SECTOR)]
    assert set(kept(found_in([packed], inodes, overlapping))) == set()
    for summed in ([], [(8 * SECTOR, SECTOR)], [(9 * SECTOR, SECTOR)], [(0, SECTOR), (20 * SECTOR, SECTOR)]):
        assert set(kept(found_in([packed], inodes, summed))) == {(5, 300, 0)}


@pytest.mark.parametrize("change", [{"nbytes": 1}, {"nlink": 0}, {"mode": 0o020644}])
def test_sizes_that_differ_are_in_an_odd_range(change: dict[str, Any]) -> None:
    extents, inodes = a_tree(5)
    at = next(at for at, row in enumerate(inodes) if row.inode == 311)
    inodes[at] = replace(inodes[at], **change)
    found = found_in(extents, inodes, ALL)
    assert ranges(found) == {(5, 1)}
    assert set(kept(found)) == {(row.tree, row.inode, row.offset) for row in extents}  # all of them are in it


def plain(extents: Sequence[Extent], inodes: Sequence[Inode], summed: Sequence[tuple[int, int]]) -> set[Extent]:
    """Return what has to be looked at, one by one."""
    covered = {at for start, length in summed for at in range(start, start + length, SECTOR)}
    by_number = defaultdict(list)
    for inode in inodes:
        by_number[inode.tree, inode.inode].append(inode)
    files = defaultdict(list)
    for row in extents:
        files[row.tree, row.inode].append(row)
    waiting = {row.extent for row in extents if row.kind == PREALLOC}
    found = set()
    for of, rows in files.items():
        rows.sort(key=lambda row: row.offset)
        whole = [row.offset + (-(-row.length // SECTOR) * SECTOR if row.kind == INLINE else row.length) for row in rows]
        counted = Counter[bool]()
        counted[True] -= sum(row.length for row in rows if row.kind != HOLE)
        for inode in by_number[of]:
            if inode.differs and inode.nlink and inode.mode >> 12 in (8, 10):
                counted[True] += inode.nbytes
        apart = any(row.offset != end for row, end in zip(rows[1:], whole, strict=False))
        special = any(i.differs and (i.mode >> 12 in (4, 10) or i.flags & 1) for i in by_number[of])
        if apart or special or not by_number[of] or counted[True]:
            found |= set(rows)
    for row in extents:
        start = row.extent if row.kind == COMPRESSED else row.extent + row.extent_offset
        size = row.extent_length if row.kind == COMPRESSED else row.length
        used = row.kind in (REGULAR, COMPRESSED) and not {*range(start, start + size, SECTOR)} <= covered
        if used or row.kind == PREALLOC or (row.kind == REGULAR and row.extent in waiting) or row.generation > LAST:
            found.add(row)
    return found


EXTENTS = st.builds(
    Extent,
    st.sampled_from([5, 256]),
    st.integers(256, 258),
    st.integers(0, 3).map(SECTOR.__mul__),
    st.integers(1, 2).map(SECTOR.__mul__),
    st.sampled_from([REGULAR, COMPRESSED, INLINE, PREALLOC, HOLE]),
    st.integers(0, 1),
    st.integers(1, 4).map(SECTOR.__mul__),
    st.integers(1, 2).map(SECTOR.__mul__),
    st.integers(0, 1).map(SECTOR.__mul__),
    st.just(SECTOR),
    st.sampled_from([7, LAST + 1]),
    st.just(0),
    st.just(0),
)
INODE_ROWS = st.builds(
    Inode,
    st.sampled_from([5, 256]),
    st.integers(256, 258),
    st.integers(0, 3).map(SECTOR.__mul__),
    st.integers(0, 1),
    st.sampled_from([FILE_MODE, DIRECTORY_MODE, SYMLINK_MODE, (1 << 32) - 1]),
    st.integers(0, 1),
    st.booleans(),
)
SUMMED = st.lists(st.tuples(st.integers(0, 5).map(SECTOR.__mul__), st.integers(1, 3).map(SECTOR.__mul__)), max_size=4)


@given(st.lists(EXTENTS, max_size=8), st.lists(INODE_ROWS, max_size=5), SUMMED)
def test_nothing_that_may_be_wrong_is_left_out(
    extents: list[Extent], inodes: list[Inode], summed: list[tuple[int, int]]
) -> None:
    found = found_in(extents, inodes, sorted(summed))
    wanted = plain(extents, inodes, summed)
    assert set(kept(found)) >= {astuple(row)[:3] for row in wanted}
    assert len(found.extents.rows) <= len(extents)
