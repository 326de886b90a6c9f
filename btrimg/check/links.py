"""Names and inodes held against each other: which of them have to be looked at one by one.

What items of two kinds say of the same links is added up in sums of random numbers, one for each thing said, so that
what both say comes to 0: for a directory its two kinds of entries, and its entries and the references of what they lead
to; for 256 inodes their numbers of links and their names, by count and by type of file. The numbers are drawn anew each
time, so that no image can be made to have equal sums of what is not the same.

Many directories share a sum: where one comes to something else, the names of all of them are looked at.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from btrimg.ondisk.constants import FILE_TYPES, NAME_MAX, ItemType, TreeId
from btrimg.tables.hashes import mixed
from btrimg.tables.relation import BYTES, Column, Relation, i64, u64
from btrimg.tables.schema import NAME_SOURCES
from btrimg.trees.distinct import among

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

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
_SUMS = 16  # bits: how many sums of one kind there are
_ROWS_AT_ONCE = 1 << 15  # what is made of them stays in a processor's cache


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
    seeds = np.frombuffer(os.urandom(8 * 9), np.uint64) | np.uint64(1)
    of_tree, seeds = seeds[0], seeds[1:]
    entries, references, counts, types = (np.zeros(1 << _SUMS, np.uint64) for _ in range(4))
    directory, range_ = (np.empty(len(names.rows), np.uint16) for _ in range(2))  # the sum that each name is in
    parts: list[Entries] = []

    def place(tree: Unsigned, number: Unsigned) -> Unsigned:
        return mixed(seeds, number + tree * of_tree)

    for some, tree, column in _slices(names, _OF_NAMES):
        parent, inode, source = column["parent"], column["inode"], column["source"]
        of_inode = column["location_type"] != ItemType.ROOT_ITEM
        # The top directory's reference to itself has no entry.
        told = (parent != inode) | (column["location_type"] != 0)
        item, index, reference = told & (source == _ITEM), told & (source == _INDEX), told & (source > _INDEX)
        where = place(tree, parent)
        at = directory[some] = _sum_of(where)
        name = mixed(seeds, where, inode, column["name"])
        said = mixed(seeds, name, column["location_type"].astype(np.uint64) << np.uint64(8) | column["type"])
        _add(np.add, entries, at, item, said)
        _add(np.subtract, entries, at, index, said)
        said = mixed(seeds, name, column["index"])
        _add(np.add, references, at, index & of_inode, said)
        _add(np.subtract, references, at, reference, said)
        where = place(tree, inode >> np.uint64(8))
        at = range_[some] = _sum_of(where)
        said = mixed(seeds, where, inode)
        judged = differs[some] & of_inode
        _add(np.subtract, counts, at, judged & (source > _INDEX), said)
        _add(np.subtract, types, at, judged & (source == _ITEM), said * column["type"])
        parts.append(_entries(tree, column))
    for some, tree, column in _slices(inodes, _OF_INODES):
        inode, kind = column["inode"], _TYPES[np.minimum(column["mode"] >> 12, len(_TYPES) - 1)]
        where = place(tree, inode >> np.uint64(8))
        at, said = _sum_of(where), mixed(seeds, where, inode) * column["nlink"]
        judged = inodes_differ[some]
        _add(np.add, counts, at, judged, said)
        _add(np.add, types, at, judged & (inode != TreeId.FIRST_FREE), said * kind)  # no entry leads to the top
    odd_directory, odd_range = (entries | references) != 0, (counts | types) != 0
    kept = np.flatnonzero(
        odd_directory[directory] | odd_range[range_] | ~differs | _told_by_themselves(names, tops)[names.rows]
    )
    found = names._replace(rows=names.rows[kept], trees=names.trees[kept]).in_order()
    return Links(
        found,
        differs[kept],
        _directories(parts, found, lambda tree, inode: odd_directory[_sum_of(place(tree, inode))]),
        _ranges(inodes, found, lambda tree, number: odd_range[_sum_of(place(tree, number))]),
    )


def _slices(gathered: Gathered, names: Sequence[str]) -> Iterator[tuple[slice, Unsigned, Columns]]:
    """Yield some rows at once, and of these the trees and some columns."""
    for start in range(0, len(gathered.rows), _ROWS_AT_ONCE):
        some = slice(start, start + _ROWS_AT_ONCE)
        different: Any = gathered.different
        yield some, gathered.trees[some], {name: different[name][gathered.rows[some]] for name in names}


def _sum_of(where: Unsigned) -> NDArray[np.uint16]:
    """Return the number of the sum in which something is counted, by the number mixed of its tree and its place."""
    return (where >> np.uint64(64 - _SUMS)).astype(np.uint16)


def _add(operation: np.ufunc, sums: Unsigned, at: NDArray[np.uint16], which: Truths, said: Unsigned) -> None:
    rows = np.flatnonzero(which)
    operation.at(sums, at[rows], said[rows])


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
    start = _first_of_each(tree, parent)
    sizes = np.add.reduceat(size, start) if len(start) else size
    return tree[start], parent[start], np.diff(np.append(start, len(rows))), sizes


def _directories(parts: list[Entries], names: Gathered, is_odd: Callable[[Unsigned, Unsigned], Truths]) -> Columns:
    """Return the columns of ``directories``, with those that have no entries and yet are odd by some of *names*."""
    parent: Any = names.different["parent"]
    rows = names.rows
    none = np.zeros(len(rows), np.int64)
    tree, inode, count, size = (
        np.concatenate(each) for each in zip(*parts, (names.trees, parent[rows], none, none), strict=True)
    )
    order = np.lexsort((inode, tree))
    tree, inode = tree[order], inode[order]
    start = _first_of_each(tree, inode)
    count, size = (np.add.reduceat(each[order], start) if len(start) else each for each in (count, size))
    tree, inode = tree[start], inode[start]
    return {"subvolume": tree, "inode": inode, "entries": count, "names_size": size, "odd": is_odd(tree, inode)}


def _ranges(inodes: Gathered, names: Gathered, is_odd: Callable[[Unsigned, Unsigned], Truths]) -> Columns:
    """Return the columns of ``odd_ranges``."""
    numbers: list[Any] = [each.different["inode"][each.rows] >> np.uint64(8) for each in (inodes, names)]
    tree, number = np.concatenate([inodes.trees, names.trees]), np.concatenate(numbers)
    rows = np.flatnonzero(is_odd(tree, number))
    rows = rows[np.lexsort((number[rows], tree[rows]))]
    tree, number = tree[rows], number[rows]
    first = _first_of_each(tree, number)
    return {"subvolume": tree[first], "range": number[first]}


def _first_of_each(tree: Unsigned, number: Unsigned) -> NDArray[np.intp]:
    """Return where a pair begins that is not the one before."""
    return np.flatnonzero(np.append(True, (tree[1:] != tree[:-1]) | (number[1:] != number[:-1]))[: len(tree)])
