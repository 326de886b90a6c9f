"""Names and inodes held against each other: which of them have to be looked at one by one.

What items of two kinds say of the same links is counted in :mod:`sums`: for a directory its two kinds of entries, and
its entries and the references of what they lead to; for 256 inodes their numbers of links and their names, by count and
by type of file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from btrimg.check.sums import Sums, first_of_each, odd_ranges, slices, sum_of
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

_OF_NAMES = (
    *("source", "parent", "inode", "index", "hash", "expected_hash"),
    *("location_type", "type", "name", "name_length"),
)
_OF_INODES = ("inode", "nlink", "mode")
COLUMNS = {*_OF_NAMES, *_OF_INODES}  #: of ``names`` and ``inodes``, that must be there

_ITEM, _INDEX = (list(NAME_SOURCES).index(kind) for kind in (ItemType.DIR_ITEM, ItemType.DIR_INDEX))
_TYPES = np.full(17, 99, np.uint64)  # by the four bits of the mode, FileType; the last is for modes that cannot be
for _mode, _file_type in FILE_TYPES.items():
    _TYPES[_mode >> 12] = _file_type


class Links(NamedTuple):
    """What there is to look at."""

    names: Gathered  #: those that rules may find fault with, alone or beside others
    differs: Truths  #: of each of these
    directories: Columns
    odd_ranges: Columns


def links(names: Gathered, differs: Truths, inodes: Gathered, inodes_differ: Truths, tops: Unsigned) -> Links:
    """Return what of *names* has to be looked at, in the light of *inodes*; *tops* are numbers of top directories.

    Of *inodes* those that *differ* are judged, and every name that leads to another one is kept.
    """
    sums = Sums(4)
    entries, references, counts, types = range(4)
    directory, range_ = (np.empty(len(names.rows), np.uint16) for _ in range(2))  # the sum that each name is in
    parts: list[Entries] = []
    for some, tree, column in slices(names, _OF_NAMES):
        parent, inode, source = column["parent"], column["inode"], column["source"]
        of_inode = column["location_type"] != ItemType.ROOT_ITEM
        # The top directory's reference to itself has no entry.
        told = (parent != inode) | (column["location_type"] != 0)
        item, index, reference = told & (source == _ITEM), told & (source == _INDEX), told & (source > _INDEX)
        place = sums.place(tree, parent)
        directory[some] = sum_of(place)
        name = sums.said(place, inode, column["name"])
        said = sums.said(name, column["location_type"].astype(np.uint64) << np.uint64(8) | column["type"])
        sums.add(entries, place, item, said)
        sums.subtract(entries, place, index, said)
        said = sums.said(name, column["index"])
        sums.add(references, place, index & of_inode, said)
        sums.subtract(references, place, reference, said)
        place = sums.place(tree, inode >> np.uint64(8))
        range_[some] = sum_of(place)
        said = sums.said(place, inode)
        judged = differs[some] & of_inode
        sums.subtract(counts, place, judged & (source > _INDEX), said)
        sums.subtract(types, place, judged & (source == _ITEM), said * column["type"])
        parts.append(_entries(tree, column))
    for some, tree, column in slices(inodes, _OF_INODES):
        inode, kind = column["inode"], _TYPES[np.minimum(column["mode"] >> 12, len(_TYPES) - 1)]
        place = sums.place(tree, inode >> np.uint64(8))
        said = sums.said(place, inode) * column["nlink"]
        judged = inodes_differ[some]
        sums.add(counts, place, judged, said)
        sums.add(types, place, judged & (inode != TreeId.FIRST_FREE), said * kind)  # no entry leads to the top
    odd_directory, odd_range = sums.odd(entries, references), sums.odd(counts, types)
    kept = np.flatnonzero(
        odd_directory[directory] | odd_range[range_] | ~differs | _told_by_themselves(names, tops)[names.rows]
    )
    found = names._replace(rows=names.rows[kept], trees=names.trees[kept]).in_order()
    directories = _directories(parts, found)
    place = sums.place(directories["subvolume"], directories["inode"])
    directories["odd"] = odd_directory[sum_of(place)]
    return Links(found, differs[kept], directories, odd_ranges(sums, odd_range, inodes, found))


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


def _entries(tree: Unsigned, column: Columns) -> Entries:
    """Return how many entries directories have in some rows; there are several rows of one if it comes again."""
    rows = np.flatnonzero(column["source"] <= _INDEX)
    tree, parent, size = tree[rows], column["parent"][rows], column["name_length"][rows].astype(np.int64)
    start = first_of_each(tree, parent)
    sizes = np.add.reduceat(size, start) if len(start) else size
    return tree[start], parent[start], np.diff(np.append(start, len(rows))), sizes


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
