"""Sums of random numbers in which what is said twice comes to 0: where they do not, something has to be looked at.

A sum counts all that is said of a place, a number within a tree; the numbers are drawn anew each time, so that no image
can be made to have equal sums of what is not the same. At first many places share one, so that a table of a fixed size
holds all; then those of which the sum is not 0 have one each. What is said is bound to its place: what one lacks and
another has too much of does not come to nothing.
"""

from __future__ import annotations

import os
from copy import copy
from typing import TYPE_CHECKING, Any

import numpy as np

from btrimg.filesystem.treepaths import find
from btrimg.tables.hashes import mixed
from btrimg.trees.distinct import different

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from btrimg.tables.leafscan import Gathered

    Unsigned = NDArray[np.uint64]
    Truths = NDArray[np.bool_]
    Columns = dict[str, NDArray[Any]]

_BITS = 16  # of the number of a sum
_ROWS_AT_ONCE = 1 << 15  # what is made of them stays in a processor's cache


class Sums:
    """Sums of some *kinds*: of a place one each, or one of all that share the upper bits of what stands for them."""

    def __init__(self, kinds: int) -> None:
        self._seeds = np.frombuffer(os.urandom(8 * 9), np.uint64) | np.uint64(1)
        self._places: Unsigned | None = None  #: those that have a sum of their own, in order; no others are counted
        self._sums = np.zeros((kinds, 1 << _BITS), np.uint64)

    def of_each(self, places: Unsigned) -> Sums:
        """Return sums of the same kinds, with nothing counted, of *places* only, one for each."""
        found = copy(self)
        found._places = different(places)
        found._sums = np.zeros((len(self._sums), len(found._places)), np.uint64)
        return found

    def place(self, tree: Unsigned, number: Unsigned) -> Unsigned:
        """Return what stands for numbers within trees."""
        return mixed(self._seeds[1:], number + tree * self._seeds[0])

    def said(self, *columns: NDArray[Any]) -> Unsigned:
        """Return a random number for what is said in each row; the first column is a place or was said before."""
        return mixed(self._seeds[1:], *columns)

    def add(self, kind: int, place: Unsigned, which: Truths, said: Unsigned) -> None:
        """Add what is said in some rows."""
        rows, numbers = self._numbered(place, which)
        np.add.at(self._sums[kind], numbers, said[rows])

    def subtract(self, kind: int, place: Unsigned, which: Truths, said: Unsigned) -> None:
        """Subtract what is said in some rows."""
        rows, numbers = self._numbered(place, which)
        np.subtract.at(self._sums[kind], numbers, said[rows])

    def _numbered(self, place: Unsigned, which: Truths) -> tuple[NDArray[np.intp], NDArray[Any]]:
        rows = np.flatnonzero(which)
        place = place[rows]
        if self._places is None:
            return rows, _shared(place)
        number = find(self._places, place)
        kept = np.flatnonzero(number >= 0)
        return rows[kept], number[kept]

    def odd(self, place: Unsigned) -> Truths:
        """Return of which places one of the sums is not 0."""
        odd = (self._sums != 0).any(axis=0)
        if self._places is None:
            found: Truths = odd[_shared(place)]
            return found
        return np.append(odd, False)[find(self._places, place)]  # the last one is for number -1


def _shared(place: Unsigned) -> NDArray[np.uint16]:
    return (place >> np.uint64(64 - _BITS)).astype(np.uint16)


def slices(gathered: Gathered, names: Sequence[str]) -> Iterator[tuple[slice, Unsigned, Columns]]:
    """Yield some rows at once, and of these the trees and some columns."""
    different: Any = gathered.different
    for start in range(0, len(gathered.rows), _ROWS_AT_ONCE):
        some = slice(start, start + _ROWS_AT_ONCE)
        yield some, gathered.trees[some], {name: different[name][gathered.rows[some]] for name in names}


def first_of_each(tree: Unsigned, number: Unsigned) -> NDArray[np.intp]:
    """Return where a pair begins that is not the one before."""
    return np.flatnonzero(np.append(True, (tree[1:] != tree[:-1]) | (number[1:] != number[:-1]))[: len(tree)])


def odd_ranges(sums: Sums, *several: Gathered) -> Columns:
    """Return the places of rows, 256 inodes each, of which *sums* are odd: columns ``subvolume`` and ``range``."""
    trees, numbers = [np.empty(0, np.uint64)], [np.empty(0, np.uint64)]
    for gathered in several:
        for _, tree, column in slices(gathered, ["inode"]):
            number = column["inode"] >> np.uint64(8)
            rows = np.flatnonzero(sums.odd(sums.place(tree, number)))
            trees.append(tree[rows])
            numbers.append(number[rows])
    tree, number = np.concatenate(trees), np.concatenate(numbers)
    order = np.lexsort((number, tree))
    tree, number = tree[order], number[order]
    first = first_of_each(tree, number)
    return {"subvolume": tree[first], "range": number[first]}


def some_of(gathered: Gathered, rows: NDArray[np.intp]) -> Gathered:
    """Return some of the rows."""
    return gathered._replace(rows=gathered.rows[rows], trees=gathered.trees[rows])
