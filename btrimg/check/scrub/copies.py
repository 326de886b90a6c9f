"""Every copy of many logical ranges, read in pieces of bounded size and judged by a few threads.

Ranges consist of units, sectors or tree blocks, that are judged one by one. They are cut into pieces that are
contiguous on every copy, and pieces are gathered in groups of one buffer each, in logical order: reads go forward on
every device, and a group of many short ranges costs no more than one of a long one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from btrimg.errors import DeviceError, UnsupportedError
from btrimg.named import NamedTuple
from btrimg.trees.batches import ranges
from btrimg.trees.distinct import different
from btrimg.volume.cachestat import cached_bytes
from btrimg.volume.mapping import GRAIN, Window

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from btrimg.volume.device import Device
    from btrimg.volume.places import PlaceMap
    from btrimg.volume.volume import Volume

    Ints = NDArray[np.int64]
    States = NDArray[np.uint8]

GROUP_BYTES = 1 << 20  #: of one buffer: larger ones leave the cache of a core between reading and judging
_MOST_PARTS = 512  # of a device that are shown one by one; where there are more, reading is quicker
_FAR = 2 << 20  # bytes between parts for which one window is too large

GOOD, BAD, DIFFERS, UNREADABLE, MISSING = range(5)  #: what a unit of a copy is found to be
STATES = ("good", "bad", "differs", "unreadable", "missing")


class Pieces(NamedTuple):
    """Parts of ranges that have equally many copies, in logical order; each is contiguous on every copy."""

    unit: int  #: bytes of a unit
    logical: Ints
    length: Ints  #: bytes, whole units
    number: Ints  #: of the first unit, among the units of all ranges that were given
    devid: NDArray[np.uint64]  #: (copies, pieces)
    physical: Ints  #: (copies, pieces)
    bounds: Ints  #: group g has the pieces bounds[g] to bounds[g + 1]
    at: Ints  #: where a piece lies in the buffer of its group; the pieces of a group fill it to its end

    @property
    def copies(self) -> int:
        """Return how many copies there are."""
        return len(self.devid)

    @property
    def groups(self) -> int:
        """Return how many groups there are."""
        return len(self.bounds) - 1

    @property
    def numbers(self) -> Ints:
        """Return the numbers of all units, in order."""
        return ranges(self.number, self.length // self.unit)

    def rows(self, group: int) -> slice:
        """Return the pieces of a group."""
        return slice(int(self.bounds[group]), int(self.bounds[group + 1]))

    def start(self, group: int) -> int:
        """Return where in its buffer the bytes of a group start: at 0 but for the first group."""
        return int(self.at[self.bounds[group]])

    def bytes_of(self, first: int, end: int) -> int:
        """Return how many bytes the groups from *first* to before *end* have, of those that there are."""
        return (min(end, self.groups) - first) * GROUP_BYTES - (0 if first else self.start(0))

    def first(self, group: int) -> int:
        """Return which unit, counted from the first of the first group, is the first of a group."""
        return max(group * (GROUP_BYTES // self.unit) - self.start(0) // self.unit, 0)


def cut(places: PlaceMap, logical: Ints, length: Ints, unit: int) -> tuple[list[Pieces], Ints]:
    """Return the pieces of ranges, which are whole units each, by number of copies; what no chunk maps is left out.

    Beside them, the numbers of units that are not contiguous on every copy: tree blocks of a conversion from ext4 can
    lie across elements.
    """
    logical, length, number = _runs(logical, length, unit)
    logical, length, run, done = cut_at(GROUP_BYTES, np.zeros(len(logical), np.int64), logical, length)
    number = number[run] + done // unit
    whole: list[tuple[Ints, ...]] = [(logical[:0],) * 3]
    torn = [number[:0]]
    while len(logical):
        contiguous = places.locate(logical.view(np.uint64)).contiguous
        piece = np.minimum(contiguous, length)
        across = (piece > 0) & (piece < unit)
        torn.append(number[across])
        piece = np.where(contiguous > 0, np.maximum(piece - piece % unit, unit), length)
        kept = (contiguous > 0) & ~across
        whole.append((logical[kept], piece[kept], number[kept]))
        more = np.flatnonzero(piece < length)
        step = piece[more]
        logical, length, number = logical[more] + step, length[more] - step, number[more] + step // unit
    parts = [np.concatenate(column) for column in zip(*whole, strict=True)]
    return list(_by_copies(places, unit, *parts)), np.concatenate(torn)


def _runs(logical: Ints, length: Ints, unit: int) -> tuple[Ints, Ints, Ints]:
    """Return ranges with those that follow each other joined, and the numbers of their first units."""
    number = np.cumsum(length // unit) - length // unit
    first = np.flatnonzero(np.append(True, logical[1:] != logical[:-1] + length[:-1])[: len(logical)])
    return logical[first], np.add.reduceat(length, first) if len(first) else length, number[first]


def cut_at(step: int, at: Ints, logical: Ints, length: Ints) -> tuple[Ints, Ints, Ints, Ints]:
    """Return ranges cut where positions, of which *at* are those of their first bytes, are multiples of *step*.

    Beside logical and length, which of the ranges each part is of, and how many bytes of it come before.
    """
    first, last = at // step, (at + length - 1) // step
    count = np.maximum(last - first + 1, 0)
    whole = np.repeat(np.arange(len(count)), count)
    number = ranges(first, count)
    begin = np.maximum(number * step, at[whole])
    end = np.minimum((number + 1) * step, (at + length)[whole])
    done = begin - at[whole]
    return logical[whole] + done, end - begin, whole, done


def _by_copies(places: PlaceMap, unit: int, logical: Ints, length: Ints, number: Ints) -> Iterator[Pieces]:
    copies = places.locate(logical.view(np.uint64)).copies
    for count in different(copies).tolist():
        some = np.flatnonzero(copies == count)
        some = some[np.argsort(logical[some], kind="stable")]
        yield _grouped(places, unit, count, logical[some], length[some], number[some])


def _grouped(places: PlaceMap, unit: int, copies: int, logical: Ints, length: Ints, number: Ints) -> Pieces:
    pad = -int(length.sum()) % GROUP_BYTES  # so that all groups but the first are full
    at = pad + np.cumsum(length) - length
    logical, length, piece, done = cut_at(GROUP_BYTES, at, logical, length)
    number = number[piece] + done // unit
    at = pad + np.cumsum(length) - length
    found = places.locate(logical.view(np.uint64))
    groups = (pad + int(length.sum())) // GROUP_BYTES
    bounds = np.searchsorted(at // GROUP_BYTES, np.arange(groups + 1))
    devid, physical = found.devid[:copies], found.physical[:copies]
    return Pieces(unit, logical, length, number, devid, physical, bounds, at % GROUP_BYTES)


def show_copy(volume: Volume, pieces: Pieces, groups: range, copy: int) -> list[memoryview] | None:
    """Show one copy of neighbouring *groups*, part by part, as it is in the kernel's page cache: nothing is copied.

    None where it cannot be shown, or not all of it can be read: ``read_copy`` tells what can.
    """
    devids, starts, lengths = parts_of(pieces, groups, copy)
    if len(starts) > _MOST_PARTS or ((starts | lengths) % GRAIN).any():
        return None
    ends = starts + lengths
    shown: list[memoryview] = []
    for some in neighbours(devids, starts, ends, _FAR):
        device, first = volume.devices.get(int(devids[some[0]])), int(starts[some[0]])
        if device is None or not device.shows_all:
            return None
        try:
            window = Window(device, first, int(ends[some[-1]]) - first)
        except (DeviceError, UnsupportedError):
            return None
        view = memoryview(window)
        for at, length in zip((starts[some] - first).tolist(), lengths[some].tolist(), strict=True):
            if not window.load(at, length):
                return None
            shown.append(view[at : at + length])
    return shown


def neighbours(devids: NDArray[np.uint64], starts: Ints, ends: Ints, far: int) -> list[Ints]:
    """Return the numbers of parts, those together that follow each other on one device, *far* bytes away at most."""
    away = (devids[1:] != devids[:-1]) | (starts[1:] < ends[:-1]) | (starts[1:] - ends[:-1] > far)
    return np.split(np.arange(len(starts)), np.flatnonzero(away) + 1)


def expect_copy(volume: Volume, pieces: Pieces, groups: range, copy: int) -> None:
    """Let the kernel begin to read one copy of neighbouring *groups*, of those that there are.

    It looks at each page of what it is to read; to ask how many it has takes a tenth of the time. Where it has as many
    as there are of the copy, these are taken to be them: what lies between, mostly free, it reads with them or not.
    """
    devids, starts, lengths = parts_of(pieces, groups, copy)
    if not 0 < len(starts) <= _MOST_PARTS:
        return
    for some in neighbours(devids, starts, starts + lengths, _FAR):
        device, first, last = volume.devices.get(int(devids[some[0]])), int(starts[some[0]]), some[-1]
        span = int(starts[last] + lengths[last]) - first
        if device is None or _cached(device, first, span) >= int(lengths[some].sum()):
            continue
        for start, size in zip(starts[some].tolist(), lengths[some].tolist(), strict=True):
            device.expect(size, start)


def _cached(device: Device, start: int, length: int) -> int:
    """Return how many bytes of a part of a device the page cache is known to have."""
    try:
        return cached_bytes(device.fileno(), start, length)
    except OSError:
        return 0


def parts_of(pieces: Pieces, groups: range, copy: int) -> tuple[NDArray[np.uint64], Ints, Ints]:
    """Return devid, place and length of what is contiguous of one copy of neighbouring *groups*."""
    first, end = (int(pieces.bounds[min(group, pieces.groups)]) for group in (groups.start, groups.stop))
    devid, start, length = pieces.devid[copy, first:end], pieces.physical[copy, first:end], pieces.length[first:end]
    breaks = (devid[1:] != devid[:-1]) | (start[1:] != start[:-1] + length[:-1])
    parts = np.flatnonzero(np.append(True, breaks)[: len(length)])
    return devid[parts], start[parts], np.add.reduceat(length, parts) if len(parts) else length


def read_copy(volume: Volume, pieces: Pieces, group: int, copy: int, buffer: memoryview) -> States | None:
    """Fill *buffer* with one copy of a group; return the state of each unit, None when all could be read."""
    rows = pieces.rows(group)
    devids, physicals = pieces.devid[copy, rows].tolist(), pieces.physical[copy, rows].tolist()
    starts, lengths = pieces.at[rows].tolist(), pieces.length[rows].tolist()
    states: States | None = None
    for devid, physical, start, length in zip(devids, physicals, starts, lengths, strict=True):
        device = volume.devices.get(devid)
        try:
            if device is not None:
                device.pread_into(buffer[start : start + length], physical)
                continue
        except DeviceError:
            pass
        if states is None:
            states = np.zeros((GROUP_BYTES - starts[0]) // pieces.unit, np.uint8)
        for at in range(0, length, pieces.unit):
            state = MISSING
            if device is not None:
                try:
                    device.pread_into(buffer[start + at : start + at + pieces.unit], physical + at)
                    state = GOOD
                except DeviceError:
                    state = UNREADABLE
            states[(start + at - starts[0]) // pieces.unit] = state
    return states
