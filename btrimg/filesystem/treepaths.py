"""The paths of many inodes of one subvolume at once; :mod:`namei` finds one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from btrimg.filesystem import strings
from btrimg.filesystem.strings import LENGTH_MAX, Strings
from btrimg.trees.batches import ranges
from btrimg.trees.distinct import different

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from btrimg.filesystem.leafrows import Names

    Ints = NDArray[np.int64]
    Unsigned = NDArray[np.uint64]


def paths_of(wanted: Unsigned, names: Names, rows: Ints, top: int, prefix: bytes) -> tuple[Ints, Strings]:
    """Return for every inode *wanted* the number of its path, -1 where it has none, and the paths.

    *names* and *rows* of it are those of the subvolume in key order, *top* is its top directory and *prefix* that
    directory's path. Of several names of an inode the first counts. There is no path for a file that does not hang
    below *top*, nor one of 64 KiB and more: deep nests of long names would take memory out of all proportion.
    """
    if not len(rows):
        return np.full(len(wanted), -1, np.int64), strings.EMPTY
    inode = names.inode[rows]
    first = np.append(True, inode[1:] != inode[:-1])
    rows, inode = rows[first], inode[first]
    directory = different(names.parent[rows])
    path_number, directory_paths = _directories(directory, inode, names, rows, top, prefix)
    found = find(inode, wanted)
    row = rows[found]
    above = path_number[find(directory, names.parent[row])]
    above = np.where(found >= 0, above, -1)
    length = names.name.offsets[row + 1] - names.name.offsets[row] + 1
    named = np.flatnonzero((above >= 0) & (_lengths(directory_paths)[above] + length <= LENGTH_MAX))
    number = np.full(len(wanted), -1, np.int64)
    number[named] = np.arange(len(named))
    return number, strings.join(directory_paths, above[named], names.name, row[named])


def every_path_of(wanted: Unsigned, names: Names, rows: Ints, top: int, prefix: bytes) -> tuple[Ints, Strings]:
    """Return how many paths each inode *wanted* has, one for each name, and all of them; else as ``paths_of``.

    Here *names* holds all names of every inode. Each inode is wanted once, in order.
    """
    inode = names.inode[rows]
    first = np.append(True, inode[1:] != inode[:-1])[: len(rows)]
    directory = different(names.parent[rows])
    path_number, directory_paths = _directories(directory, inode[first], names, rows[first], top, prefix)
    whose = find(wanted, inode)
    whose, rows = whose[whose >= 0], rows[whose >= 0]
    above = path_number[find(directory, names.parent[rows])]
    length = names.name.offsets[rows + 1] - names.name.offsets[rows] + 1
    named = (above >= 0) & (_lengths(directory_paths)[above] + length <= LENGTH_MAX)
    count = np.bincount(whose[named], minlength=len(wanted))
    return count, strings.join(directory_paths, above[named], names.name, rows[named])


def _directories(
    directory: Unsigned, inode: Unsigned, names: Names, rows: Ints, top: int, prefix: bytes
) -> tuple[Ints, Strings]:
    """Return the number of the path of each *directory*, -1 without one, and the paths.

    Goes down from *top*, one level of directories at a time, so that a cycle is never entered.
    """
    own = find(inode, directory)
    row = rows[own]
    above = np.where((own >= 0) & (directory != top), find(directory, names.parent[row]), -1)
    by_parent = np.argsort(above, kind="stable")
    ordered = above[by_parent]
    number = np.full(len(directory), -1, np.int64)
    paths = [strings.of_list([prefix])]
    level = np.flatnonzero(directory == top)
    number[level] = 0
    count = 1
    while len(level):
        start, end = np.searchsorted(ordered, level, "left"), np.searchsorted(ordered, level, "right")
        parent = np.repeat(number[level] - (count - paths[-1].rows), end - start)
        level = by_parent[ranges(start, end - start)]
        here = strings.join(paths[-1], parent, names.name, row[level])
        short = _lengths(here) < LENGTH_MAX
        if not short.all():
            level, parent = level[short], parent[short]
            here = strings.join(paths[-1], parent, names.name, row[level])
        number[level] = count + np.arange(len(level))
        count += len(level)
        paths.append(here)
    return number, strings.concatenate(paths)


def _lengths(column: Strings) -> Ints:
    return np.diff(column.offsets)


def find(ordered: NDArray[Any], values: NDArray[Any]) -> Ints:
    """Return where each of *values* stands in *ordered*, -1 where it does not."""
    if not len(ordered):
        return np.full(len(values), -1, np.int64)
    at = np.minimum(np.searchsorted(ordered, values), len(ordered) - 1)
    return np.where(ordered[at] == values, at, -1)
