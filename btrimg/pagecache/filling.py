"""Frames filled with pages that many files need: the part of it that many processors can do beside each other.

A job is done here, or by a process beside this one that has the frames in common with it. There, whatever is not well,
an error or a checksum that differs, ends the job: it is done here then, again, where other copies are looked for and
somebody hears of it.
"""

from __future__ import annotations

import mmap
from contextlib import ExitStack, suppress
from queue import Empty, SimpleQueue
from threading import local
from typing import TYPE_CHECKING, Self

from btrimg.errors import BtrimgError
from btrimg.forked import alone, beside, cores
from btrimg.named import NamedTuple
from btrimg.pagecache.fill import stored
from btrimg.pagecache.pages import PAGE, PAGE_SHIFT
from btrimg.units import MIB

if TYPE_CHECKING:
    from collections.abc import Iterator

    from btrimg.forked import Line
    from btrimg.pagecache.arena import Arena
    from btrimg.pagecache.filerows import FileRows
    from btrimg.pagecache.fill import Filler
    from btrimg.pagecache.sweepplan import Wanted

_MOST = 4  #: jobs beside each other
_WORTH = 64 * MIB // PAGE  # pages for which processes of their own are worth it: it takes 20 ms to make two
_ROOM = 2 * MIB  # bytes that are read and checked at once: as many as stay in the nearest memory of a processor


class Plain(NamedTuple):
    """Bytes to bring in as they are stored."""

    frame: int  #: the first
    where: list[tuple[int, int]]  #: logical address, bytes
    checked: bool  #: whether there are checksums


class Packed(NamedTuple):
    """Pages to bring in of compressed extents: columns, a row for each run of them."""

    frame: int  #: the first
    wanted: list[int]  #: row of what is wanted
    skipped: list[int]  #: pages of the row before them
    pages: list[int]


class _Own(local):
    """What each thread has for itself."""

    def __init__(self) -> None:
        # Aligned, as devices want it that are read around the page cache. Private: no process that is forked has it in
        # common with this one. To make it anew for each job takes a tenth of the time of the job.
        self.room = memoryview(mmap.mmap(-1, _ROOM, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))


class Filling:
    """Fills frames of *arena* with what is *wanted* of the files of *rows*."""

    def __init__(self, filler: Filler, arena: Arena, rows: FileRows, wanted: Wanted) -> None:
        self._filler, self._arena, self._rows, self._wanted = filler, arena, rows, wanted
        self._sector = rows.image.volume.sectorsize
        self._own = _Own()

    def do(self, job: Plain | Packed, *, again: bool = True) -> list[int]:
        """Do a job; return the frames whose pages cannot be had, with *again* from no copy, in order."""
        return [*(self._plain(job, again) if isinstance(job, Plain) else self._packed(job, again))]

    def serve(self, line: Line) -> None:
        """Do, in a process beside, the jobs that come over *line*, and tell of each whether all is well."""
        while True:
            kind, job = line.hear()
            line.tell(not self.do((Plain, Packed)[kind]._make(job), again=False))

    def _plain(self, job: Plain, again: bool) -> Iterator[int]:
        frame, size = job.frame, self._sector
        for ranges in _cut(job.where, _ROOM * PAGE // size):  # each page may be in a sector of its own
            sectors = [
                (start - start % size, length + start % size + -(start + length) % size) for start, length in ranges
            ]
            room = self._own.room[: sum(length for _, length in sectors)]
            bad = self._filler.sectors_into(room, sectors, checked=job.checked, again=again)
            pieces, at, begin = [], 0, frame
            for (start, length), (_, whole) in zip(ranges, sectors, strict=True):
                first, end = at + start % size, at + start % size + length
                for sector in bad:
                    low, high = max(sector * size, first), min((sector + 1) * size, end)
                    yield from range(frame + (low - first >> PAGE_SHIFT), frame + (high - first >> PAGE_SHIFT))
                pieces.append(room[first:end])
                frame, at = frame + (length >> PAGE_SHIFT), at + whole
            self._arena.write(begin, pieces if size > PAGE else [room])

    def _packed(self, job: Packed, again: bool) -> Iterator[int]:
        wanted, number = self._wanted, job.wanted
        columns = (wanted.source[number], wanted.stored[number], wanted.row[number], wanted.first[number])
        where = list(zip(*(column.tolist() for column in columns), strict=True))
        start: dict[tuple[int, int], int] = {}
        total = 0
        for logical, length, _, _ in where:
            if (logical, length) not in start:
                start[logical, length] = total
                total += length
        data = self._own.room[:total] if total <= _ROOM else memoryview(bytearray(total))
        checked = not wanted.unchecked[number[0]]
        unsound = set(self._filler.sectors_into(data, start, checked=checked, again=again))
        before = (wanted.skipped[number] << PAGE_SHIFT).tolist()
        last, plain, frame = (-1, -1, -1, -1), memoryview(b""), job.frame
        found: list[memoryview | bytes] = []
        for each, skip, skipped, pages in zip(where, before, job.skipped, job.pages, strict=True):
            if each != last:
                low = start[each[:2]]
                high = low + each[1]
                sound = not unsound or unsound.isdisjoint(range(low // self._sector, high // self._sector))
                plain = memoryview(self._decompressed(each[2], each[3], data[low:high]) if sound else b"")
                last = each
            if not plain:
                yield from range(frame, frame + pages)
            at = skip + (skipped << PAGE_SHIFT)
            found.append(plain[at : at + (pages << PAGE_SHIFT)])
            found.append(bytes((pages << PAGE_SHIFT) - len(found[-1])))
            frame += pages
        self._arena.write(job.frame, found)

    def _decompressed(self, row: int, file: int, data: memoryview) -> bytes:
        """Return what a compressed extent holds; nothing if it is broken."""
        where = stored(self._rows, file, row)
        try:
            return self._filler.unpacked(where, data) if where else b""
        except BtrimgError:
            return b""


class Fillers:
    """Do jobs of *filling*, several at once, in threads of who asks and in processes of their own (context manager).

    There are *pages* to bring in, more or less.
    """

    def __init__(self, filling: Filling, pages: int) -> None:
        self._filling, self._stack = filling, ExitStack()
        self._free: SimpleQueue[Line] = SimpleQueue()  # lines to processes that have no job
        self._processes = _processes(pages)
        self.threads = max(self._processes, 2)  #: that should ask

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            with suppress(OSError):  # with fewer processes, or none, the threads do all that is left
                for _ in range(self._processes):
                    self._free.put(stack.enter_context(beside(self._filling.serve)))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def do(self, job: Plain | Packed) -> list[int]:
        """Do a job; return the frames whose pages cannot be had from any copy, in order."""
        try:
            line = self._free.get_nowait()
        except Empty:
            return self._filling.do(job)
        try:
            line.tell((isinstance(job, Packed), tuple(job)))
            sound = line.hear()
        except (BrokenPipeError, EOFError):  # it has ended, and is asked no more
            sound = False
        else:
            self._free.put(line)
        return [] if sound else self._filling.do(job)


def _processes(pages: int) -> int:
    """Return how many processes to have beside this one, for so many pages to bring in."""
    if pages < _WORTH or cores() == 1 or not alone():
        return 0
    return min(cores(), _MOST)


def _cut(ranges: list[tuple[int, int]], most: int) -> Iterator[list[tuple[int, int]]]:
    """Yield *ranges* in groups of up to *most* bytes each; those that are longer, in pieces."""
    group: list[tuple[int, int]] = []
    room = most
    for start, length in ranges:
        while length:
            piece = min(length, room)
            group.append((start, piece))
            start, length, room = start + piece, length - piece, room - piece
            if not room:
                yield group
                group, room = [], most
    if group:
        yield group
