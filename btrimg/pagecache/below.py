"""Which files are below some paths: many of them at once, from the names that leaves hold."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from btrimg.trees.batches import ranges

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from btrimg.filesystem.census import Census
    from btrimg.filesystem.image import Image
    from btrimg.filesystem.inode import Inode

    Ints = NDArray[np.int64]
    Unsigned = NDArray[np.uint64]


class Below:
    """Files at or below the tops that were added, across subvolumes."""

    def __init__(self, image: Image, census: Census) -> None:
        self._census = census
        self._numbers = {subvolume.id: number for number, subvolume in enumerate(census.subvolumes)}
        self._hanging: dict[int, list[tuple[int, int]]] = {}  # by subvolume: (directory, the subvolume in it)
        for subvolume in self._numbers:
            parent = image.parent_of(subvolume)
            if parent is not None:
                self._hanging.setdefault(parent.subvolume, []).append((parent.dirid, subvolume))
        self._tops = 0
        #: for each top that has files there, the number of the top and their inodes; None are all
        self.by_subvolume: dict[int, list[tuple[int, Unsigned | None]]] = {}

    def add(self, top: Inode) -> None:
        """Take what is at or below one more top."""
        pending, done = [(top.subvolume.id, top.ino)], set[tuple[int, int]]()
        while pending:
            at = subvolume, inode = pending.pop()
            if at in done or subvolume not in self._numbers:
                continue
            done.add(at)
            whole = inode == self._top_directory(subvolume)
            below = None if whole else _closure(inode, *self._census.parents_of(self._numbers[subvolume]))
            self.by_subvolume.setdefault(subvolume, []).append((self._tops, below))
            inside = None if below is None else set(below.tolist())
            for directory, other in self._hanging.get(subvolume, ()):
                if other in self._numbers and (inside is None or directory in inside):
                    pending.append((other, self._top_directory(other)))
        self._tops += 1

    def _top_directory(self, subvolume: int) -> int:
        return self._census.subvolumes[self._numbers[subvolume]].root.root_dirid

    def top_of(self, subvolume: int, inode: Unsigned) -> Ints:
        """Return the number of the first top that each inode of a subvolume is below, -1 where there is none."""
        top = np.full(len(inode), -1, np.int64)
        for number, below in self.by_subvolume[subvolume]:
            here = np.ones(len(inode), np.bool_) if below is None else np.isin(inode, below)
            top[here & (top < 0)] = number
        return top


def _closure(top: int, inode: Unsigned, directory: Unsigned) -> Unsigned:
    """Return *top* and all that is below it, where each of *inode* has a name in the *directory* beside it."""
    order = np.argsort(directory, kind="stable")
    inode, directory = inode[order], directory[order]
    found = level = np.array([top], np.uint64)
    while len(level):
        start, end = np.searchsorted(directory, level, "left"), np.searchsorted(directory, level, "right")
        level = np.setdiff1d(inode[ranges(start, end - start)], found)
        found = np.union1d(found, level)
    return found
