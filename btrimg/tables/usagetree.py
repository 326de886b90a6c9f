"""What the files and directories below a path use, in the order in which ``btrfs filesystem du`` and compsize go.

That is the order of ``readdir``: by the index of each entry, and a directory behind what it holds. Entries of a
subvolume stand by directory and index in its leaves, so levels of directories are found by search, top down, how many
entries each directory has below it is added up, bottom up, and then every entry's place follows, top down.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from btrimg.filesystem import namei, strings
from btrimg.filesystem.leafrows import DIRECTORY, FILE, SUBVOLUME
from btrimg.filesystem.strings import LENGTH_MAX, Strings
from btrimg.named import NamedTuple
from btrimg.ondisk.constants import EMPTY_SUBVOL_DIR_OBJECTID
from btrimg.tables.usage import TYPES
from btrimg.trees.batches import ranges

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from btrimg.filesystem.inode import Inode
    from btrimg.tables.usage import Usage

    Ints = NDArray[np.int64]
    Unsigned = NDArray[np.uint64]
    Bools = NDArray[np.bool_]


class Section(NamedTuple):
    """Files and directories that come one after the other; the columns of the first six are of one length.

    A file with several names stands at the first that is come to. A path is that of a directory, and a name behind it.
    """

    subvolume: Ints  #: id
    inode: Unsigned
    directory: Bools
    total: Ints  #: bytes, those of a directory with all below it
    exclusive: Ints
    above: Ints  #: index into *directories*
    name: Ints  #: index into *names*
    directories: Strings  #: paths from the top-level subvolume
    names: Strings
    files: int  #: names of regular files
    uses: Ints  #: row numbers of the file extents of all files, once for each name
    fresh: Ints  #: likewise, of each file once


class Compressed(NamedTuple):
    """What compsize says of one type of extents, in bytes."""

    disk: int
    uncompressed: int
    referenced: int


class Compression(NamedTuple):
    """What compsize says of files; a file with several names counts once for each, its extents once."""

    files: int
    extents: int
    references: int
    inline: int
    types: dict[str, Compressed]  #: by name in TYPES, those that occur

    @property
    def total(self) -> Compressed:
        """Return the sums over all types."""
        return Compressed(*map(sum, zip((0, 0, 0), *self.types.values(), strict=True)))


class CompressionTally:
    """Adds up what compsize says of sections: an extent counts as what its first use is."""

    def __init__(self, usage: Usage) -> None:
        self._usage = usage
        self._type = np.full(len(usage.extents.logical), len(TYPES), np.uint8)  # of extents, what is none at first
        self._sums = np.zeros((3, len(TYPES)), np.int64)  # disk, uncompressed, referenced
        self._files = self._references = self._inline = 0

    def add(self, section: Section) -> None:
        """Add the files of a section."""
        rows = self._usage.file_extents
        extent, kind = rows.extent[section.uses], rows.type[section.uses]
        inline = extent < 0
        new = np.flatnonzero(~inline)[::-1]  # the first of equal ones is assigned last
        new = new[self._type[extent[new]] == len(TYPES)]
        self._type[extent[new]] = kind[new]
        self._files += section.files
        self._inline += int(inline.sum())
        self._references += len(inline) - int(inline.sum())
        _add_by(self._sums[2], kind, rows.length[section.uses])
        stored = section.uses[inline]
        _add_by(self._sums[0], kind[inline], rows.disk_length[stored])
        _add_by(self._sums[1], kind[inline], rows.ram_bytes[stored])

    def compression(self) -> Compression:
        """Return the sums."""
        sums, extents = self._sums.copy(), self._usage.extents
        for column, size in ((sums[0], extents.length), (sums[1], extents.ram_bytes)):
            _add_by(column, self._type, size)
        types = {name: Compressed(*column) for name, column in zip(TYPES, sums.T.tolist(), strict=True) if any(column)}
        extents_met = int((self._type < len(TYPES)).sum())
        return Compression(self._files, extents_met, self._references, self._inline, types)


def _add_by(sums: Ints, kind: NDArray[np.uint8], size: Ints) -> None:
    """Add the sizes of each kind to its sum."""
    for number in range(len(sums)):
        sums[number] += size[kind == number].sum()


def walk(usage: Usage, top: Inode) -> Iterator[Section]:
    """Yield what is below the directory *top*, across subvolumes, without itself; of a regular file only its uses.

    Where *usage* has no names there are no paths. One of 64 KiB or more is left out; what it leads to is counted.
    """
    number = usage.ids.index(top.subvolume.id)
    stack = [_Walk(usage, number, top, usage.text(strings.of_list([path_of(usage, top)])))]
    entered = {number}
    while stack:
        here = stack[-1]
        found = here.go_on(entered)
        yield here.section()
        if found:
            entered.add(found.number)
            stack.append(found)
        else:
            stack.pop()
            if stack:
                stack[-1].come_back(here)


def path_of(usage: Usage, top: Inode) -> bytes:
    """Return the path of an inode from the top-level subvolume, without a slash at its end."""
    path = usage.trees.path_of(usage.ids.index(top.subvolume.id)) or b""
    return path + (namei.path_in_subvolume(top.image, top.subvolume, top.ino) or b"")


class _Walk:
    """The way through one subvolume from its directory *top* on, an inode or its number, or to a single file."""

    def __init__(self, usage: Usage, number: int, top: Inode | int, path: Strings) -> None:
        self.number, self._usage = number, usage
        self.top = top if isinstance(top, int) else top.ino
        self._alone = not isinstance(top, int) and not top.is_directory
        if self._alone:
            self._directory = self._child = np.array([self.top], np.uint64)
            self._kind, self._name = np.array([FILE], np.uint8), np.zeros(1, np.int64)
            order = _Order(np.zeros(1, np.int64), np.zeros(1, np.int64), np.zeros(1, np.int64), [])
        else:
            rows = usage.entries_of(number)
            entry, child, kind, _ = usage.entries
            order = _in_order(entry[rows], child[rows], kind[rows], self.top)
            self._name = rows[order.entry]
            self._directory, self._child, self._kind = entry[self._name], child[self._name], kind[self._name]
        self._begins, self._above = order.begin, order.above
        self._paths, long = self._directories(path, order)
        self._repeated = _repeats(self._child, self._kind)
        self._hidden = self._repeated | long[self._above] | self._alone
        self._nested = np.flatnonzero(self._kind == SUBVOLUME).tolist()[::-1]
        self._start = self._end = 0
        self._came_from: _Walk | None = None
        self._find_uses()

    def _directories(self, path: Strings, order: _Order) -> tuple[Strings, Bools]:
        """Return the paths of all directories, and which are too long to be there."""
        if not self._usage.named:
            return path, np.zeros(1 + sum(map(len, order.inner)), np.bool_)
        names = self._usage.entries.name
        paths, too_long, before = [path], [np.zeros(1, np.bool_)], 0
        for places in order.inner:
            above, name = order.above[places] - before, self._name[places]
            length = np.diff(paths[-1].offsets)[above] + 1 + np.diff(names.offsets)[name]
            long = too_long[-1][above] | (length > LENGTH_MAX)
            here = strings.join(paths[-1], above[~long], names, name[~long])
            before += paths[-1].rows
            paths.append(Strings(np.append(0, np.cumsum(np.where(long, 0, length))), here.data))
            too_long.append(long)
        return strings.concatenate(paths), np.concatenate(too_long)

    def _find_uses(self) -> None:
        """Find the file extents of every file, and their sums up to every place."""
        rows, extents = self._usage.file_extents, self._usage.extents
        self._rows = self._usage.rows_of(self.number)
        inode, extent = rows.inode[self._rows], rows.extent[self._rows]
        length = np.where(extent >= 0, rows.length[self._rows], 0)
        alone = np.where(np.append(extents.shared, True)[extent], 0, length)  # -1 is inline data
        file = self._kind == FILE
        self._first, self._last = np.zeros((2, len(file)), np.int64)
        self._first[file] = np.searchsorted(inode, self._child[file], "left")
        self._last[file] = np.searchsorted(inode, self._child[file], "right")
        self._sizes, self._sums = np.zeros((2, len(file)), np.int64), np.zeros((2, len(file) + 1), np.int64)
        for size, each in zip(self._sizes, (length, alone), strict=True):
            until = np.append(0, np.cumsum(each))
            size[:] = np.where(self._repeated, 0, until[self._last] - until[self._first])

    def go_on(self, entered: set[int]) -> _Walk | None:
        """Go on to the next subvolume that is not *entered* yet, and return the walk through it; None at the end."""
        self._start = self._end
        usage = self._usage
        while self._nested:
            place = self._nested.pop()
            number = usage.number_of.get(int(self._child[place]))
            if number is None or number in entered:
                continue
            parent = usage.parents[number]
            if parent and parent[:2] == (usage.ids[self.number], int(self._directory[place])):
                self._end = place
                path = self._paths
                if usage.named:
                    path = strings.join(path, self._above[[place]], usage.entries.name, self._name[[place]])
                return _Walk(usage, number, usage.trees.subvolumes[number].root.root_dirid, path)
        self._end = len(self._kind)
        return None

    def come_back(self, nested: _Walk) -> None:
        """Take over what there is in the subvolume where the walk stopped."""
        self._sizes[:, self._end] = nested.sums
        self._came_from = nested

    @property
    def sums(self) -> Ints:
        """Return total and exclusive bytes of what was gone through."""
        return self._sums[:, self._end]

    def section(self) -> Section:
        """Return what was gone through last."""
        start, end = self._start, self._end
        self._sums[:, start + 1 : end + 1] = self._sums[:, [start]] + np.cumsum(self._sizes[:, start:end], axis=1)
        count = self._last[start:end] - self._first[start:end]
        uses = self._rows[ranges(self._first[start:end], count)]
        again = np.repeat(self._repeated[start:end], count)
        kind = self._kind[start:end]
        subvolume = np.full(end - start, self._usage.ids[self.number])
        inode = np.where(kind == SUBVOLUME, np.uint64(EMPTY_SUBVOL_DIR_OBJECTID), self._child[start:end])
        if self._came_from:
            subvolume[0], inode[0] = self._usage.ids[self._came_from.number], self._came_from.top
        kept = ~self._hidden[start:end]
        place = np.arange(start, end)[kept]
        size = self._sums[:, place] - self._sums[:, self._begins[place]] + self._sizes[:, place]
        return Section(
            subvolume=subvolume[kept],
            inode=inode[kept],
            directory=kind[kept] != FILE,
            total=size[0],
            exclusive=size[1],
            above=self._above[place],
            name=self._name[place],
            directories=self._paths,
            names=self._usage.entries.name,
            files=int((kind == FILE).sum()),
            uses=uses,
            fresh=uses[~again] if again.any() else uses,
        )


class _Order(NamedTuple):
    """Entries in the order in which they are come to, each behind what it holds; columns but for *inner*."""

    entry: Ints  #: its number
    begin: Ints  #: place of the first of what it holds, its own place where that is nothing
    above: Ints  #: number of its directory: 0 for the top, then level by level
    inner: list[Ints]  #: the places of the directories of each level, in the order of their numbers


def _in_order(directory: Unsigned, child: Unsigned, kind: NDArray[np.uint8], top: int) -> _Order:
    """Return the entries below the directory *top*; all stand by *directory* and then by index."""
    levels = list(_levels(directory, child, kind, top))
    sizes: list[Ints] = []  # of the entries of each level, with what they hold; from the last level up
    below = np.empty(0, np.int64)
    for entries, counts in reversed(levels):
        size = np.ones(len(entries), np.int64)
        size[kind[entries] == DIRECTORY] += below
        below = np.diff(np.append(0, np.cumsum(size))[np.append(0, np.cumsum(counts))])
        sizes.append(size)
    entry, begin, above = np.zeros((3, int(below.sum())), np.int64)
    inner = []
    starts, numbered = np.zeros(1, np.int64), 0
    for (entries, counts), size in zip(levels, reversed(sizes), strict=True):
        ends = np.append(0, np.cumsum(size))
        first = starts - ends[np.append(0, np.cumsum(counts))[:-1]]
        begins = ends[:-1] + np.repeat(first, counts)
        places = begins + size - 1
        entry[places], begin[places] = entries, begins
        above[places] = numbered + np.repeat(np.arange(len(counts)), counts)
        directories = kind[entries] == DIRECTORY
        inner.append(places[directories])
        starts, numbered = begins[directories], numbered + len(counts)
    return _Order(entry, begin, above, inner)


def _levels(directory: Unsigned, child: Unsigned, kind: NDArray[np.uint8], top: int) -> Iterator[tuple[Ints, Ints]]:
    """Yield level by level the entries, and how many there are in each directory of the level above.

    A directory is entered once, so that a cycle ends.
    """
    entered = np.zeros(len(directory) + 1, np.bool_)
    inodes = np.array([top], np.uint64)
    while len(inodes):
        first, last = (np.searchsorted(directory, inodes, side) for side in ("left", "right"))
        full = np.flatnonzero((last > first) & ~entered[first])  # an empty one has the place of the next one
        new = full[np.unique(first[full], return_index=True)[1]]
        counts = np.zeros(len(first), np.int64)
        counts[new] = last[new] - first[new]
        entered[first[new]] = True
        entries = ranges(first, counts)
        yield entries, counts
        inodes = child[entries[kind[entries] == DIRECTORY]]


def _repeats(child: Unsigned, kind: NDArray[np.uint8]) -> Bools:
    """Return which entries lead to an inode that one before them leads to."""
    repeated = np.zeros(len(child), np.bool_)
    inodes = np.flatnonzero(kind != SUBVOLUME)
    order = inodes[np.argsort(child[inodes], kind="stable")]
    repeated[order[1:][child[order[1:]] == child[order[:-1]]]] = True
    return repeated
