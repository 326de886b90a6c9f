"""What readahead brings in: along the file, as the kernel's; along the device, as that of the patches; or in an extent.

A reader has a window in every file, as in mm/readahead.c: a miss at the start of a file, or next to where it read last,
opens one of 4 pages or more; each time that it comes to the last one, another is read, up to four times as large, and
of 4 MiB at most. Misses anywhere else bring in what they ask for. Simplified: memory has no limit, devices are never
congested, and a window that was lost is not guessed again from the pages around (count_history_pages). Held against
the tracepoints of Linux 6.18: it brings in the same number of pages.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING

import numpy as np

from btrimg.named import NamedTuple
from btrimg.pagecache.pages import PAGE
from btrimg.pagecache.schemes import SCHEMES, Domains
from btrimg.pagecache.streams import numbers_of
from btrimg.trees.batches import ranges

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from btrimg.pagecache.pages import Ints, KeyRuns
    from btrimg.pagecache.streams import Streams

WINDOW = (4 << 20) // PAGE  #: pages, at most: what btrfs sets, whatever the device's (fs/btrfs/disk-io.c open_ctree)
SPACES = ("file", "device", "extent")
_TOLD = 1 << 14  # accesses between two reports of progress
_SCHEME_OF = {"file": "inode", "device": "device", "extent": "extent"}


class Fetched(NamedTuple):
    """Pages that were brought in, in one space."""

    space: str
    asked: int  #: pages, because they were read
    ahead: int  #: pages, because others were
    wasted: int  #: of those ahead, pages that nobody read
    foreign: int  #: of those ahead, pages that are not the file's that was read


class _Window:
    """How far a reader's readahead has come in a file; pages by number."""

    __slots__ = ("end", "last", "marker", "size")

    def __init__(self) -> None:
        self.last = -2  # that was read last
        self.size = 0
        self.end = 0  # where the next window begins
        self.marker = -1  # whose reading makes the next window be read


def read_ahead(streams: Streams, space: str, progress: Callable[[int], None] = lambda _accesses: None) -> Fetched:
    """Return what readahead in one of SPACES brings in for all reads of *streams*."""
    keys = SCHEMES[_SCHEME_OF[space]].keys(streams.rows, Domains())
    first, limit, numbers = _along(streams, keys, space)
    reads = streams.reads
    split = streams.split(reads, keys.file, keys.page, keys.pages)
    start = first[split.run] + split.page - keys.page[split.run]
    who = reads.reader * streams.rows.files.rows + reads.file
    columns = (start, start + split.pages, limit[split.run], who[split.read], keys.file[split.run], split.page)
    reading = _Reading(numbers, _Owners(keys, first) if space == "device" else None)
    for done, row in enumerate(zip(*(column.tolist() for column in columns), strict=True), 1):
        reading.read(*row)
        if not done % _TOLD:
            progress(_TOLD)
    read = np.zeros(numbers, np.bool_)
    read[ranges(start, split.pages)] = True
    wasted = int(np.count_nonzero(np.frombuffer(reading.ahead, np.bool_) & ~read))
    return Fetched(space, reading.asked, reading.ahead.count(1), wasted, reading.foreign)


def _along(streams: Streams, keys: KeyRuns, space: str) -> tuple[Ints, Ints, int]:
    """Return of each run the number of its first page, that of the first one too far ahead, and how many there are.

    Pages that follow each other in *space* have numbers that do, and so have those that may be read ahead of them.
    Behind a page that the device does not share, its file goes on.
    """
    if space == "extent":
        behind = np.zeros(len(keys.file), np.int64)
    else:
        behind = streams.rows.files.pages[keys.file] - keys.page - keys.pages
        if space == "device":
            behind = np.where(keys.refusal == 0, 2 * WINDOW, behind)
    pages = keys.pages + np.minimum(behind, 2 * WINDOW)
    first, numbers = numbers_of(keys._replace(pages=pages))
    return first, first + pages, numbers


class _Owners:
    """Which pages are a file's own."""

    def __init__(self, keys: KeyRuns, first: Ints) -> None:
        order = np.lexsort((first, keys.file))
        self._start, self._end = first[order].tolist(), (first + keys.pages)[order].tolist()
        files = int(keys.file.max(initial=-1)) + 1
        self._bounds = np.searchsorted(keys.file[order], np.arange(files + 1)).tolist()

    def parts(self, file: int, start: int, end: int) -> Iterator[tuple[int, int]]:
        """Yield the parts of [start, end) that are pages of *file*; some may overlap where it has an extent twice."""
        low, high = self._bounds[file], self._bounds[file + 1]
        at = max(bisect_right(self._start, start, low, high) - 1, low)
        reached = start
        while at < high and self._start[at] < end:
            part = max(self._start[at], reached), min(self._end[at], end)
            if part[0] < part[1]:
                yield part
                reached = part[1]
            at += 1


class _Reading:
    """Memory without a limit, and the windows of all readers."""

    def __init__(self, numbers: int, owners: _Owners | None) -> None:
        self._here = bytearray(numbers)
        self.ahead = bytearray(numbers)  #: 1 for pages that were brought in before they were asked for
        self.asked = self.foreign = 0
        self._owners = owners
        self._windows: dict[int, _Window] = {}

    def read(self, start: int, end: int, limit: int, who: int, file: int, page: int) -> None:
        """Read [start, end), from *page* of the *file* on; what is at *limit* is not read ahead of it."""
        window = self._windows.get(who)
        if window is None:
            window = self._windows[who] = _Window()
        missing = self._here.find(0, start, end)
        if start <= window.marker < (end if missing < 0 else missing):
            self._next(window, limit, file)
            missing = self._here.find(0, start, end)
        if missing >= 0:
            in_order = (page == 0 and missing == start) or 0 <= missing - window.last <= 1
            self._missed(window, missing, end, limit, file, in_order=in_order)
        window.last = end - 1

    def _missed(self, window: _Window, missing: int, end: int, limit: int, file: int, *, in_order: bool) -> None:
        """Bring in [missing, end), and open a window if that is where reading goes on."""
        self.asked += self._here.count(0, missing, end)
        self._here[missing:end] = bytes([1]) * (end - missing)
        if not in_order:
            return
        window.size = first_size(end - missing)
        window.end = max(min(missing + window.size, limit), end)
        self._bring(end, window.end, file)
        window.marker = end
        if window.size <= end - missing:
            self._next(window, limit, file)

    def _next(self, window: _Window, limit: int, file: int) -> None:
        """Read the next window, up to *limit*."""
        start = window.marker = window.end
        window.size = next_size(window.size)
        window.end = max(min(start + window.size, limit), start)
        self._bring(start, window.end, file)

    def _bring(self, start: int, end: int, file: int) -> None:
        """Bring in what is not here of [start, end)."""
        here, ahead = self._here, self.ahead
        new = here.count(0, start, end)
        if not new:
            return
        if self._owners:
            self.foreign += new - sum(here.count(0, *part) for part in self._owners.parts(file, start, end))
        at = here.find(0, start, end)
        while at >= 0:
            stop = here.find(1, at, end)
            stop = end if stop < 0 else stop
            ahead[at:stop] = here[at:stop] = bytes([1]) * (stop - at)
            at = here.find(0, stop, end)


def first_size(asked: int) -> int:
    """Return the pages of a first window, with those that are asked for (mm/readahead.c get_init_ra_size)."""
    size = 1 << (asked - 1).bit_length()
    if size <= WINDOW // 32:
        return size * 4
    return size * 2 if size <= WINDOW // 4 else WINDOW


def next_size(size: int) -> int:
    """Return the pages of the window after one of *size* (get_next_ra_size)."""
    if size < WINDOW // 16:
        return size * 4
    return min(size * 2, WINDOW)
