"""How many pages many runs of keys come to, and whose: unions of ranges, without a loop over them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from btrimg.named import NamedTuple
from btrimg.pagecache.pages import KeyRuns
from btrimg.pagecache.schemes import INODE, KIND_MASK, NONE

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Ints = NDArray[np.int64]


class Coverage(NamedTuple):
    """Pieces that every key is in exactly one of, such that the keys of a piece are in the same runs; columns."""

    pages: Ints  #: how many keys
    runs: Ints  #: how many runs have them, at least 1
    first: Ints  #: the smallest label of these runs

    @property
    def total(self) -> int:
        """Return how many different keys there are: the pages in memory when all is read."""
        return int(self.pages.sum())

    def by_label(self, labels: int) -> list[int]:
        """Return how many keys come new with each of the labels, which are below *labels*."""
        found = np.zeros(labels, np.int64)
        np.add.at(found, self.first, self.pages)
        return [int(count) for count in found]


class Groups(NamedTuple):
    """Runs of equal keys, in groups."""

    order: Ints  #: numbers of all runs, group by group, by label within
    start: Ints  #: of each group, in *order*; one more at the end

    @property
    def chosen(self) -> Ints:
        """Return the first run of each group."""
        return self.order[self.start[:-1]]


def grouped(keys: KeyRuns, label: Ints) -> Groups:
    """Group the runs that have the very same keys; groups come in the order of their keys, in which ranges are too."""
    columns = (keys.space, keys.unit, keys.number, keys.pages)
    order = np.lexsort((label, *reversed(columns)))
    new = np.zeros(len(order), np.bool_)
    new[:1] = True
    for column in columns:
        ordered = column[order]
        new[1:] |= ordered[1:] != ordered[:-1]
    return Groups(order, np.append(np.flatnonzero(new), len(order)))


def cover(keys: KeyRuns, label: Ints) -> Coverage:
    """Return what the *keys* of files cover, each of which comes once; *label* says of each run whose it is, from 0 on.

    Runs may overlap in any way: ends of runs are ranked, and the smallest label of all runs at a rank is found as in a
    sparse table turned round, level by level, in n log n steps.
    """
    kind = keys.space & KIND_MASK
    own = (kind == NONE) | (kind == INODE)  # are in no other run
    shared = np.flatnonzero(~own)
    some = KeyRuns._make(column[shared] for column in keys)
    groups = grouped(some, label[shared])
    runs, chosen = np.diff(groups.start), groups.chosen
    pieces = _pieces(KeyRuns._make(column[chosen] for column in some), runs, label[shared][chosen])
    alone = Coverage(keys.pages[own], np.ones(int(own.sum()), np.int64), label[own])
    return Coverage._make(map(np.concatenate, zip(alone, pieces, strict=True)))


def _pieces(keys: KeyRuns, runs: Ints, label: Ints) -> Coverage:
    """Return what *keys* cover that stand for *runs* runs each; they are in order."""
    if not len(runs):
        return Coverage(runs, runs, label)
    near = (keys.space[1:] == keys.space[:-1]) & (keys.unit[1:] == keys.unit[:-1])
    line = np.cumsum(np.append(False, ~near))  # number of the (space, unit)
    at, first, last = ranked(line, keys.number, keys.number + keys.pages)
    count = np.zeros(len(at), np.int64)
    np.add.at(count, first, runs)
    np.subtract.at(count, last, runs)
    count = np.cumsum(count)
    covered = count > 0
    length = np.append(at[1:] - at[:-1], 0)
    return Coverage(length[covered], count[covered], _smallest(first, last, label, len(at))[covered])


def ranked(line: Ints, start: Ints, end: Ints) -> tuple[Ints, Ints, Ints]:
    """Return all different ends of ranges on lines, in order, and the ranks of both ends of each range."""
    value, lines = np.concatenate([start, end]), np.concatenate([line, line])
    order = np.lexsort((value, lines))
    value, lines = value[order], lines[order]
    new = np.append(True, (value[1:] != value[:-1]) | (lines[1:] != lines[:-1]))[: len(order)]
    rank = np.empty(len(order), np.int64)
    rank[order] = np.cumsum(new) - 1
    return value[new], rank[: len(start)], rank[len(start) :]


def _smallest(first: Ints, last: Ints, label: Ints, count: int) -> Ints:
    """Return for each number below *count* the smallest *label* of the ranges [*first*, *last*) that hold it."""
    level = np.frexp((last - first).astype(np.float64))[1] - 1  # of the largest power of two that fits
    order = np.argsort(level, kind="stable")
    bounds = np.searchsorted(level[order], np.arange(int(level.max()) + 2))
    table = np.full(count, np.iinfo(np.int64).max)
    for power in range(len(bounds) - 2, -1, -1):
        width = 1 << power
        # What holds for [i, i + 2 * width) holds for both halves.
        np.minimum(table[width:], table[:-width].copy(), out=table[width:])
        here = order[bounds[power] : bounds[power + 1]]
        np.minimum.at(table, first[here], label[here])
        np.minimum.at(table, last[here] - width, label[here])
    return table
