"""Names and inodes held against each other: which of them have to be looked at one by one.

What items of two kinds say of the same links is counted in :mod:`sums`: for a directory its two kinds of entries, and
its entries and the references of what they lead to; for 256 inodes their numbers of links and their names, by count and
by type of file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from btrimg.check.sums import Sums, first_of_each, odd_ranges, slices, some_of
from btrimg.named import NamedTuple
from btrimg.ondisk.constants import FILE_TYPES, NAME_MAX, ItemType, TreeId
from btrimg.tables.relation import BYTES, Column, Relation, i64, u64
from btrimg.tables.schema import NAME_SOURCES
from btrimg.trees.distinct import among

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from btrimg.tables.leafscan import Gathered

    Ints = NDArray[np.int64]
    Unsigned = NDArray[np.uint64]
    Truths = NDArray[np.bool_]
    Columns = dict[str, NDArray[Any]]
    Entries = tuple[Unsigned, Unsigned, Ints, Ints]  # trees and directories, how many they have, bytes of the names

DIRECTORIES = Relation(
    "directories",
    "A directory that names are in.",
    (
        u64("subvolume", "id"),
        u64("inode", "of the directory"),
        i64("entries", "of both kinds"),
        i64("names_size", "of the names of all entries together", BYTES),
        Column("odd", "?", "whether its entries and references have to be looked at one by one"),
    ),
)
ODD_RANGES = Relation(
    "odd_ranges",
    "256 inode numbers in which inode items and names differ somewhere: these inodes are looked at one by one.",
    (u64("subvolume", "id"), u64("range", "inode number, divided by 256")),
)
RELATIONS = (DIRECTORIES, ODD_RANGES)

_OF_NAMES = (*("source", "parent", "inode", "index", "location_type", "type", "name"),)
_OF_INODES = ("inode", "nlink", "mode")
COLUMNS = {
    *_OF_NAMES,
    "hash",
    "expected_hash",
    "name_length",
    *_OF_INODES,
}  #: of ``names`` and ``inodes``, that must be there

_ITEM, _INDEX = (list(NAME_SOURCES).index(kind) for kind in (ItemType.DIR_ITEM, ItemType.DIR_INDEX))
_TYPES = np.full(
    17, 256, np.uint64
)  # by the four bits of the mode: FileType; 256, which no entry has, for what cannot be
for _mode, _file_type in FILE_TYPES.items():
    _TYPES[_mode >> 12] = _file_type


def file_types(mode: NDArray[Any]) -> Unsigned:
    """Return the FileType that a directory entry should have for each *mode*, 256 where there is none."""
    found: Unsigned = _TYPES[np.minimum(mode >> 12, len(_TYPES) - 1)]
    return found


class Links(NamedTuple):
    """What there is to look at."""

    names: Gathered  #: those that rules may find fault with, alone or beside others
    differs: Truths  #: of each of these
    directories: Columns
    odd_ranges: Columns


def links(names: Gathered, differs: Truths, inodes: Gathered, inodes_differ: Truths, tops: Unsigned) -> Links:
    """Return what of *names* has to be looked at, in the light of *inodes*; *tops* are numbers of top directories.

    Of *inodes* those that differ are judged; of names that lead to others, every one is kept.
    """
    directories, ranges = Sums(2), Sums(2)
    doubted = _count(directories, ranges, names, differs, inodes, inodes_differ)
    some, others = (np.flatnonzero(each) for each in doubted)
    if len(some) + len(others):  # each is counted by itself: rules tell of more than makes sums odd
        several = some_of(names, some), differs[some], some_of(inodes, others), inodes_differ[others]
        places = _places(directories, ranges, several[0], several[2])
        directories, ranges = (sums.of_each(each) for sums, each in zip((directories, ranges), places, strict=True))
        odd, _ = _count(directories, ranges, *several)
        some = some[np.flatnonzero(odd)]
    kept = ~differs | _told_by_themselves(names, tops)[names.rows]
    kept[some] = True
    rows = np.flatnonzero(kept)
    found = some_of(names, rows).in_order()
    held = _directories(_entries(names), found)
    held["odd"] = directories.odd(directories.place(held["subvolume"], held["inode"]))
    return Links(found, differs[rows], held, odd_ranges(ranges, some_of(inodes, others), some_of(names, some)))


def _count(
    directories: Sums, ranges: Sums, names: Gathered, differs: Truths, inodes: Gathered, inodes_differ: Truths
) -> tuple[Truths, Truths]:
    """Count all that is said; return which names and which inodes are said to be in odd places."""
    entries, references, links, types = 0, 1, 0, 1
    places: list[tuple[Unsigned, Unsigned]] = []
    for some, tree, column in slices(names, _OF_NAMES):
        inode, source = column["inode"], column["source"]
        of_inode = column["location_type"] != ItemType.ROOT_ITEM
        # The top directory's reference to itself has no entry.
        told = (column["parent"] != inode) | (column["location_type"] != 0)
        item, index, reference = told & (source == _ITEM), told & (source == _INDEX), told & (source > _INDEX)
        directory, range_ = directories.place(tree, column["parent"]), ranges.place(tree, inode >> np.uint64(8))
        name = directories.said(directory, inode, column["name"])
        said = directories.said(name, column["location_type"].astype(np.uint64) << np.uint64(8) | column["type"])
        directories.add(entries, directory, item, said)
        directories.subtract(entries, directory, index, said)
        said = directories.said(name, column["index"])
        directories.add(references, directory, index & of_inode, said)
        directories.subtract(references, directory, reference, said)
        said, judged = ranges.said(range_, inode), differs[some] & of_inode
        ranges.subtract(links, range_, judged & (source > _INDEX), said)
        ranges.subtract(types, range_, judged & (source == _ITEM), said * column["type"])
        places.append((directory, range_))
    of_inodes: list[Unsigned] = []
    for some, tree, column in slices(inodes, _OF_INODES):
        inode, kind = column["inode"], file_types(column["mode"])
        range_, judged = ranges.place(tree, inode >> np.uint64(8)), inodes_differ[some]
        said = ranges.said(range_, inode) * column["nlink"]
        ranges.add(links, range_, judged, said)
        ranges.add(types, range_, judged & (inode != TreeId.FIRST_FREE), said * kind)  # no entry leads to the top
        of_inodes.append(range_)
    none = np.zeros(0, np.bool_)
    odd_names = [directories.odd(directory) | ranges.odd(range_) for directory, range_ in places]
    return np.concatenate([none, *odd_names]), np.concatenate([none, *map(ranges.odd, of_inodes)])


def _places(directories: Sums, ranges: Sums, names: Gathered, inodes: Gathered) -> tuple[Unsigned, Unsigned]:
    """Return the odd places of names and inodes: directories, and ranges."""
    found: tuple[list[Unsigned], list[Unsigned]] = [np.empty(0, np.uint64)], [np.empty(0, np.uint64)]
    for _, tree, column in slices(names, ("parent",)):
        found[0].append(directories.place(tree, column["parent"]))
    for gathered in (names, inodes):
        for _, tree, column in slices(gathered, ("inode",)):
            found[1].append(ranges.place(tree, column["inode"] >> np.uint64(8)))
    of_directories, of_ranges = map(np.concatenate, found)
    return of_directories[directories.odd(of_directories)], of_ranges[ranges.odd(of_ranges)]


def _told_by_themselves(names: Gathered, tops: Unsigned) -> Truths:
    """Return which of the different names rules look at whatever others say.

    They cannot be so, lead to subvolumes, have the hash of another one beside them or lead to top directories.
    """
    column: Any = names.different
    of_entry, leads_to = column["source"] <= _INDEX, column["location_type"]
    found: Truths = (column["hash"] != column["expected_hash"]) | (leads_to == ItemType.ROOT_ITEM)
    found |= (column["name_length"] == 0) | (column["name_length"] > NAME_MAX)
    found |= of_entry & (leads_to != ItemType.INODE_ITEM)
    found |= among(column["inode"], tops)
    item = np.flatnonzero(column["source"] == _ITEM)
    parent, hashed = column["parent"][item], column["hash"][item]
    same = np.flatnonzero((parent[1:] == parent[:-1]) & (hashed[1:] == hashed[:-1]))  # they stand in one item
    found[item[same]] = found[item[same + 1]] = True
    return found


def _entries(names: Gathered) -> list[Entries]:
    """Return how many entries directories have; there are several rows of one if it comes again."""
    none = np.empty(0, np.uint64)
    parts: list[Entries] = [(none, none, none.astype(np.int64), none.astype(np.int64))]
    for _, tree, column in slices(names, ("source", "parent", "name_length")):
        rows = np.flatnonzero(column["source"] <= _INDEX)
        tree, parent, size = tree[rows], column["parent"][rows], column["name_length"][rows].astype(np.int64)
        start = first_of_each(tree, parent)
        sizes = np.add.reduceat(size, start) if len(start) else size
        parts.append((tree[start], parent[start], np.diff(np.append(start, len(rows))), sizes))
    return parts


def _directories(parts: list[Entries], names: Gathered) -> Columns:
    """Return columns of ``directories``, with those that have no entries and yet some of *names*."""
    parent: Any = names.different["parent"]
    rows = names.rows
    none = np.zeros(len(rows), np.int64)
    tree, inode, count, size = (
        np.concatenate(each) for each in zip(*parts, (names.trees, parent[rows], none, none), strict=True)
    )
    order = np.lexsort((inode, tree))
    tree, inode = tree[order], inode[order]
    start = first_of_each(tree, inode)
    count, size = (np.add.reduceat(each[order], start) if len(start) else each for each in (count, size))
    return {"subvolume": tree[start], "inode": inode[start], "entries": count, "names_size": size}
