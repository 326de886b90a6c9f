"""One number for every inode of all subvolumes: what the kernel calls nodeid, and programs see as inode number.

btrfs counts inodes within a subvolume, and each subvolume has a device number of its own. A FUSE mount has one device
number, so the numbers themselves must differ: they are inode number + 2**40 * subvolume, in the subvolume that is
mounted the inode number alone, as the kernel's own mount shows it. They say which inode they are, so nothing need be
remembered while the kernel knows a number, nor counted until it forgets it. The few inodes that do not fit get numbers
in the order of their first appearance, and keep them.
"""

from __future__ import annotations

from btrimg.mount.wire import ROOT
from btrimg.named import NamedTuple
from btrimg.ondisk.constants import EMPTY_SUBVOL_DIR_OBJECTID, TreeId

_INO_BITS = 40
OTHERS = 1 << 63  #: first number of those that do not fit, which only this process knows


class File(NamedTuple):
    """An inode of a subvolume; of a subvolume that is not there, the entry at which it would be."""

    subvolume: int
    ino: int
    parent: int = 0  #: number of the directory, only of a placeholder
    name: bytes = b""


class Numbers:
    """The numbers of all inodes, for a mount of subvolume *start* whose top directory is inode *top*."""

    def __init__(self, start: int, top: int) -> None:
        self._root = File(start, top)
        self._start = start
        self._others: list[File] = []
        self._numbers = {self._root: ROOT}

    def number(self, subvolume: int, ino: int) -> int:
        """Return the number of an inode that is there."""
        if TreeId.FIRST_FREE <= ino < 1 << _INO_BITS and subvolume < 1 << (63 - _INO_BITS):
            if subvolume != self._start:
                return subvolume << _INO_BITS | ino
            if ino != self._root.ino:
                return ino
        return self._other(File(subvolume, ino))

    def plain(self, subvolume: int) -> tuple[int, range]:
        """Return what the numbers of a subvolume's inodes are more than their inos, and for which inos that is so."""
        base = 0 if subvolume == self._start else subvolume << _INO_BITS
        fits = subvolume < 1 << (63 - _INO_BITS)
        return base, range(self._root.ino + 1 if not base else TreeId.FIRST_FREE, 1 << _INO_BITS if fits else 0)

    def placeholder(self, subvolume: int, parent: int, name: bytes) -> int:
        """Return the number of the empty directory *name* in the directory with number *parent*."""
        return self._other(File(subvolume, EMPTY_SUBVOL_DIR_OBJECTID, parent, name))

    def _other(self, file: File) -> int:
        number = self._numbers.get(file)
        if number is None:
            number = self._numbers[file] = OTHERS + len(self._others)
            self._others.append(file)
        return number

    def file(self, number: int) -> File:
        """Return what has a number that was given out."""
        if number == ROOT:
            return self._root
        if number >= OTHERS:
            return self._others[number - OTHERS]
        return File(number >> _INO_BITS or self._start, number & ((1 << _INO_BITS) - 1))

    def plain_file(self, number: int) -> File | None:
        """Return what has *number*, which may never have been given out, in every mount of this subvolume.

        None for what has a number by the order of appearance, or has another one.
        """
        if number == ROOT:
            return self._root
        if number >= OTHERS:
            return None
        file = self.file(number)
        base, plain = self.plain(file.subvolume)
        return file if base + file.ino == number and file.ino in plain else None

    def shown(self, number: int) -> int:
        """Return *number* as programs see it; the top directory has its own inode number."""
        return self._root.ino if number == ROOT else number
