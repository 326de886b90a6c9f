"""Sums of random numbers in which what is said twice comes to 0: where they do not, something has to be looked at.

One sum counts all that is said of a place, a number within a tree; the numbers are drawn anew each time, so that no
image can be made to have equal sums of what is not the same. Many places share a sum: where one comes to something
else, all of them are looked at. What is said is bound to its place, so that what one lacks and another has too much of
does not come to nothing.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np

from btrimg.tables.hashes import mixed

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
    """Some kinds of sums, each there once for a part of all places."""

    def __init__(self, kinds: int) -> None:
        self._seeds = np.frombuffer(os.urandom(8 * 9), np.uint64) | np.uint64(1)
        self._sums = np.zeros((kinds, 1 << _BITS), np.uint64)

    def place(self, tree: Unsigned, number: Unsigned) -> Unsigned:
        """Return what stands for numbers within trees."""
        return mixed(self._seeds[1:], number + tree * self._seeds[0])

    def said(self, *columns: NDArray[Any]) -> Unsigned:
        """Return a random number for what is said in each row; the first column is a place or was said before."""
        return mixed(self._seeds[1:], *columns)

    def add(self, kind: int, place: Unsigned, which: Truths, said: Unsigned) -> None:
        """Add what is said in some rows to sums of a kind."""
        rows = np.flatnonzero(which)
        np.add.at(self._sums[kind], sum_of(place[rows]), said[rows])

    def subtract(self, kind: int, place: Unsigned, which: Truths, said: Unsigned) -> None:
        """Subtract what is said in some rows from sums of a kind."""
        rows = np.flatnonzero(which)
        np.subtract.at(self._sums[kind], sum_of(place[rows]), said[rows])

    def odd(self, *kinds: int) -> Truths:
        """Return which sums of some kinds are not 0, by number of the sum."""
        found: Truths = (self._sums[list(kinds)] != 0).any(axis=0)
        return found


def sum_of(place: Unsigned) -> NDArray[np.uint16]:
    """Return the number of the sum of a place."""
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


def odd_ranges(sums: Sums, odd: Truths, *several: Gathered) -> Columns:
    """Return the places of all rows, 256 inodes each, of which the sum is *odd*: ``subvolume`` and ``range``."""
    trees, numbers = [np.empty(0, np.uint64)], [np.empty(0, np.uint64)]
    if odd.any():
        for gathered in several:
            for _, tree, column in slices(gathered, ["inode"]):
                number = column["inode"] >> np.uint64(8)
                rows = np.flatnonzero(odd[sum_of(sums.place(tree, number))])
                trees.append(tree[rows])
                numbers.append(number[rows])
    tree, number = np.concatenate(trees), np.concatenate(numbers)
    order = np.lexsort((number, tree))
    tree, number = tree[order], number[order]
    first = first_of_each(tree, number)
    return {"subvolume": tree[first], "range": number[first]}
