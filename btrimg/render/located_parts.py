"""What answers about many bytes are put together of: texts, and numbers of those that each row takes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from btrimg.filesystem import strings
from btrimg.filesystem.strings import Strings
from btrimg.named import NamedTuple
from btrimg.tables.locatemany import OTHER, PARITY, Users
from btrimg.trees.distinct import numbered, runs
from btrimg.volume.devicepieces import NOWHERE
from btrimg.volume.places import MAX_COPIES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any

    from numpy.typing import NDArray

    from btrimg.filesystem.image import Image
    from btrimg.tables.locatemany import Answers, ManyLocator

    Ints = NDArray[np.int64]
    Part = tuple[Strings, NDArray[Any]]  # strings, and the one of each row

SLICE = 1 << 12  #: addresses whose lines are put together at a time: what stays in the processor's cache is fast


ROLES = ("P", "Q", "data", *(f"mirror {number + 1}" for number in range(MAX_COPIES)))  #: of copies


class Shown(NamedTuple):
    """What answers are shown with; names of *many*, and those of *paths*, are as *text* makes them."""

    many: ManyLocator
    image: Image
    paths: Callable[[int, int], list[bytes]]  #: of inodes of trees that are no whole subvolumes, raw
    other: Callable[[int], bytes]  #: the lines of an address that only ``Locator`` can tell, by its number
    text: Callable[[Strings], Strings]


class Texts(NamedTuple):
    """Texts of copies or users, not put together yet."""

    parts: tuple[Part | Ints | bytes, ...]  #: Ints are numbers to be shown, many of them like the one before

    def rows(self, first: int, end: int) -> Strings:
        """Return some of the texts."""
        return strings.glue(*(_some(part, slice(first, end)) for part in self.parts))


def _some(part: Part | Ints | bytes, some: slice) -> Part | bytes:
    if isinstance(part, bytes):
        return part
    if isinstance(part, tuple):
        return part[0], part[1][some]
    begins, run = runs(part[some])
    return decimals(part[some][begins])[0], run


class Files(NamedTuple):
    """The different files among users."""

    of_user: Ints  #: number of the file
    root: Ints  #: number of the tree's root among those of the scan
    inode: NDArray[np.uint64]
    names: Ints  #: how many paths each has
    paths: Strings


def files_of(shown: Shown, users: Users) -> Files:
    """Return which files *users* are parts of, with all their paths."""
    scan = shown.many.scan
    width = len(scan.inode_rank) + 1
    inode_of_rank = np.zeros(width, np.uint64)
    inode_of_rank[scan.inode_rank] = scan.uses.inode
    files, file = numbered(users.root * width + scan.inode_rank[users.use], len(scan.roots) * width)
    root, rank = np.divmod(files, width)
    inode = inode_of_rank[rank]
    count, paths = scan.paths_of(root, inode)
    rest = np.flatnonzero(root >= len(scan.trees.subvolumes))  # behind all others
    if len(rest):
        trees = zip(scan.roots[root[rest]].tolist(), inode[rest].tolist(), strict=True)
        named = [shown.paths(tree, ino) for tree, ino in trees]
        count[rest] = list(map(len, named))
        more = strings.of_list([path for each in named for path in each])
        paths = strings.concatenate([paths, shown.text(more)])
    return Files(file, root, inode, count, paths)


def with_others(
    shown: Shown, answers: Answers, some: slice, lines: Iterable[tuple[bytes, ...]]
) -> Iterable[tuple[bytes, ...]]:
    """Return the parts of *lines*, some of *answers*, with those that the scan cannot tell replaced."""
    other = np.flatnonzero(answers.kind[some] == OTHER)
    if not len(other):
        return lines
    found = list(lines)
    for row in other.tolist():
        found[row] = (shown.other(answers.first + some.start + row),)
    return found


class Copies(NamedTuple):
    """What texts of copies are told by, of each copy of some answers."""

    devids: list[int]  #: the different ones
    paths: list[str | None]  #: of those devices, None where one is missing
    device: NDArray[np.intp]  #: index into these
    role: Ints  #: index into ROLES


def copies_of(shown: Shown, answers: Answers) -> Copies:
    """Return devices and roles of the copies of *answers*."""
    copies, devices = answers.copies, shown.image.volume.devices
    at = copies.whose - answers.first
    mirrored = np.array([False, *(chunk.profile.copies > 1 for chunk in shown.many.chunks)])[answers.chunk[at] + 1]
    role = np.where(answers.kind[at] == PARITY, copies.number, np.where(mirrored, 3 + copies.number, 2))
    devids, device = np.unique(copies.devid, return_inverse=True)
    paths = [devices[devid].path if devid in devices else None for devid in devids.tolist()]
    return Copies(devids.tolist(), paths, device, role)


def joined(*several: Users) -> Users:
    """Return the rows of *several*, one after the other."""
    return Users._make(map(np.concatenate, zip(*several, strict=True)))


def decimals(column: NDArray[Any]) -> Part:
    """Return numbers, none below 0."""
    return each_of(strings.decimals(column))


def known(column: Ints, nowhere: bytes) -> Part:
    """Return numbers, and *nowhere* for NOWHERE."""
    texts, number = decimals(np.maximum(column, 0))
    return strings.concatenate([texts, strings.of_list([nowhere])]), np.where(column == NOWHERE, len(column), number)


def pick(texts: Sequence[str], number: NDArray[Any]) -> Part:
    """Return for every *number* the one of *texts*."""
    return strings.of_list([text.encode() for text in texts]), number.astype(np.intp)


def is_first(group: Ints) -> NDArray[np.bool_]:
    """Return where a row has another group than the one before."""
    return np.append(True, group[1:] != group[:-1])[: len(group)]


def grouped(texts: Strings, group: Ints, bounds: tuple[int, int]) -> Strings:
    """Return the *texts* of each group from one number to another as one; they stand in the order of their groups."""
    at = np.searchsorted(group, np.arange(bounds[0], bounds[1] + 1))
    return Strings(texts.offsets[at], texts.data)


def each_of(texts: Strings) -> Part:
    """Return all *texts*, one for each row."""
    return texts, np.arange(texts.rows)
