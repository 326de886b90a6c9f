"""What a look sees of a relation, and what looks have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from btrimg.filesystem.strings import Strings
from btrimg.named import NamedTuple
from btrimg.ondisk.constants import CompatRo
from btrimg.tables.build import objects_of
from btrimg.trees.distinct import among

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from btrimg.tables.leafscan import Gathered
    from btrimg.tables.relation import Column

    Ints = NDArray[np.intp]
    Unsigned = NDArray[np.uint64]
    Truths = NDArray[np.bool_]
    Relations = Mapping[str, "Rows"]
    Look = Callable[[Relations], bool]

_MOST = np.uint64(1 << 62)  # of numbers below, sums of two have less than 64 bits, signed or not
_NEGATIVE, _TREE_BITS, _NUMBER_BITS = np.uint64(1 << 63), 24, np.uint64(40)


class Rows:
    """The columns of a relation, row by row; text is str, that of a column with few words an index of them."""

    def __init__(self, columns: Mapping[str, NDArray[Any]], gathered: Gathered | None = None) -> None:
        """Take *columns*, of one length, and what was *gathered* beside them."""
        self._columns, self._gathered = columns, gathered
        self._size = len(next(iter(columns.values()))) if gathered is None else len(gathered.rows)

    @classmethod
    def of(cls, gathered: Gathered, more: Mapping[str, NDArray[Any]]) -> Rows:
        """Return the rows of a gathered relation, with columns that it has *more*."""
        tree = gathered.relation.tree
        return cls({**more, tree.name: gathered.trees} if tree else more, gathered)

    def __len__(self) -> int:
        """Return how many rows there are."""
        return self._size

    def __getitem__(self, name: str) -> Any:
        """Return a column; raises KeyError when there is none of that name."""
        if name in self._columns:
            return self._columns[name]
        column, gathered = self._gathered_one(name)
        values = gathered.different[name]
        return (objects_of(column, values) if isinstance(values, Strings) else values)[gathered.rows]

    def says(self, name: str, *words: str) -> Truths:
        """Return which rows have one of *words* in a column."""
        column = self[name]
        if column.dtype == object:
            return np.array([value in words for value in column.tolist()], np.bool_)
        known = self._gathered_one(name)[0].words
        return among(column, np.array([known.index(word) for word in words], column.dtype))

    def texts(self, name: str) -> list[str]:
        """Return a column of text of a few rows."""
        column: list[Any] = self[name].tolist()
        return column if name in self._columns else [self._gathered_one(name)[0].words[index] for index in column]

    def only(self, name: str) -> int:
        """Return the number that the only row has in a column."""
        (value,) = self[name].tolist()
        return int(value)

    def _gathered_one(self, name: str) -> tuple[Column, Gathered]:
        if self._gathered is None:
            raise KeyError(name)
        return next(column for column in self._gathered.relation.columns if column.name == name), self._gathered


class Ordered(NamedTuple):
    """Ranges in order, none of which reaches into the next one."""

    start: Unsigned
    end: Unsigned

    def holding(self, start: Unsigned, end: Unsigned) -> Ints:
        """Return the number of the span that each of some ranges lies in, -1 for those that lie in none."""
        found = np.searchsorted(self.start, start, "right") - 1
        found[np.append(self.end, np.uint64(0))[found] < end] = -1  # the last one is for number -1
        return found

    def joined(self) -> Ordered:
        """Return the ranges, those that touch as one."""
        apart = self.start[1:] != self.end[:-1]
        first, last = (np.append(True, apart), np.append(apart, True)) if len(self.start) else (apart, apart)
        return Ordered(self.start[first], self.end[last])


def ordered(start: Unsigned, end: Unsigned) -> Ordered | None:
    """Return ranges as Ordered, None if they are not in order, overlap or are too large to reckon with."""
    in_order = (start <= end).all() and (end[:-1] <= start[1:]).all()
    return Ordered(start, end) if in_order and are_small(end) else None


def ordered_of(rows: Rows) -> Ordered | None:
    """Return the ranges that rows begin and are long as Ordered, None if they are not, or if one is empty."""
    start, length = rows["logical"], rows["length"].astype(np.uint64)
    return ordered(start, start + length) if length.all() and are_small(start, length) else None


def are_small(*columns: NDArray[Any]) -> bool:
    """Return whether no number of *columns* is negative, or so large that a sum of two could overflow."""
    return all(bool((column.astype(np.uint64) < _MOST).all()) for column in columns)


def pairs(trees: Unsigned, numbers: Unsigned) -> Unsigned | None:
    """Return one number for each pair of the id of a tree and a number, the same wherever the pair is met.

    None where ids or numbers are too large for that.
    """
    half = np.uint64(1 << _TREE_BITS - 1)
    negative = trees >= _NEGATIVE  # as that of the tree with which a balance moves data
    trees = np.where(negative, np.uint64(0) - trees, trees)
    if (trees >= half).any() or (numbers >> _NUMBER_BITS).any():
        return None
    found: Unsigned = (trees + negative * half) << _NUMBER_BITS | numbers
    return found


def has_free_space_tree(relations: Relations) -> bool:
    """Return whether there is a free space tree that a kernel would use."""
    valid = CompatRo.FREE_SPACE_TREE | CompatRo.FREE_SPACE_TREE_VALID
    return relations["superblock"].only("compat_ro_flags") & valid == valid
