"""Many files read once each, in order: the bulk path of a page cache.

What the next files need and is not here comes in together. Then a file costs some lines of Python and a copy.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from btrimg.errors import BtrimgError, CorruptError
from btrimg.pagecache.pages import PAGE, PAGE_SHIFT, Place
from btrimg.pagecache.supply import NOWHERE, Supply
from btrimg.pagecache.sweepplan import LONGEST, NOTHING, SMALL, plan
from btrimg.units import MIB

if TYPE_CHECKING:
    from collections.abc import Iterator

    from btrimg.pagecache.cache import PageCache
    from btrimg.pagecache.filerows import FileRows
    from btrimg.pagecache.handle import CachedFile
    from btrimg.pagecache.pages import Ints, KeyRuns

    _Row = tuple[Place, int, int, int, int]  # of a file its size; of bytes in it: offset, length, frame of the first

_BATCH_PAGES, _BATCH_ROWS = 128 * MIB // PAGE, 1 << 14  # of files that are looked at together
_ROOM = MIB  # bytes that are copied while others wait: as many as a row may have
_NONE = memoryview(b"")
_ELSEWHERE = BtrimgError("what is looked for is in no frame")  # never shown


class Piece(NamedTuple):
    """Bytes of a file. What lies between its pieces, and behind the last one, is zeros."""

    place: Place
    size: int  #: of the file
    offset: int
    data: memoryview  #: overwritten when the next piece is asked for
    error: BtrimgError | None = None  #: why there are no *data*, though there should be some


class Sweep:
    """Reads the files of *rows*, once each, through *cache*; those that are *alone* through handles of their own."""

    def __init__(self, cache: PageCache, rows: FileRows, keys: KeyRuns, *, alone: bool) -> None:
        self._cache, self._rows, self._keys = cache, rows, keys
        # Half of all frames at most are wanted at once, so that none goes for another.
        self._most = min(cache.store.pages // 2, _BATCH_PAGES)
        self._plan = plan(rows, keys, self._most, alone=alone)
        self._supply = Supply(cache, rows, self._plan.wanted)
        self._room = memoryview(bytearray(_ROOM))
        self._aside = memoryview(bytearray(MIB))  # for what comes between pieces that are in the room already
        self._inline = memoryview(rows.inline.data.tobytes())
        self._sorts = self._plan.sort.tolist()
        self._handle: tuple[int, CachedFile] | None = None

    def pieces(self) -> Iterator[Piece]:
        """Yield what is not holes of all files, in order; of a file that is nothing else, one empty piece."""
        rows = self._plan
        pages = np.append(rows.wanted.pages, 0)[rows.same]  # the last one is for those that need none: -1
        try:
            for start, end in pairwise(_bounds(pages, self._most, _BATCH_ROWS)):
                yield from self._batch(start, end)
        finally:
            if self._handle:
                self._handle[1].close()

    def _batch(self, start: int, end: int) -> Iterator[Piece]:
        """Yield what rows [start, end) of the plan stand for."""
        rows, files = self._plan, self._rows.files
        file = rows.file[start:end]
        frame = self._frames(start, end)
        size = files.size[file]
        offset = rows.page[start:end] << PAGE_SHIFT
        length = np.minimum(rows.pages[start:end], -(-(size - offset) >> PAGE_SHIFT)) << PAGE_SHIFT
        length = np.minimum(length, size - offset)
        places = map(Place, files.subvolume[file].tolist(), files.inode[file].tolist())
        todo = list(zip(places, size.tolist(), offset.tolist(), length.tolist(), frame.tolist(), strict=True))
        for first, last in pairwise(_bounds(np.where(frame != NOWHERE, length, 0), _ROOM, _BATCH_ROWS)):
            number = start + first
            for piece in self._copied(todo[first:last], number):
                if piece.error is _ELSEWHERE:
                    yield from self._otherwise(number, piece, todo[number - start][3])
                else:
                    yield piece
                number += 1

    def _frames(self, start: int, end: int) -> Ints:
        """Bring in what rows of the plan need, as far as can be; return the frame that each starts in, or NOWHERE."""
        rows = self._plan
        needed, which = np.unique(rows.same[start:end], return_inverse=True)
        without = int(len(needed) > 0 and needed[0] < 0)  # there may be rows that need none
        frames, missed = self._supply.have(needed[without:])
        frame = np.append(np.full(without, NOWHERE), frames)[which]
        found = np.flatnonzero(frame != NOWHERE)
        frame[found] += rows.inside[start:end][found]
        pages, file, refusal = rows.pages[start:end], rows.file[start:end], rows.refusal[start:end]
        self._cache.account.swept(frame[found], pages[found], file[found], refusal[found], missed)
        return frame

    def _copied(self, rows: list[_Row], number: int) -> list[Piece]:
        """Copy what rows from *number* on of the plan stand for; where that is in no frame, the error is _ELSEWHERE."""
        store, room = self._cache.store, self._room
        memory = store.memory
        pieces: list[Piece] = []
        used = 0
        with store.lock:
            current = self._supply.current
            for at, (place, size, offset, length, frame) in enumerate(rows, number):
                if frame != NOWHERE and not current:
                    frame = self._frame(at)
                if frame == NOWHERE:
                    pieces.append(Piece(place, size, offset, _NONE, _ELSEWHERE))
                    continue
                source, end = frame << PAGE_SHIFT, used + length
                data = room[used:end]
                data[:] = memory[source : source + length]
                pieces.append(Piece(place, size, offset, data))
                used = end
        return pieces

    def _frame(self, number: int) -> int:
        """Return the frame that a row of the plan starts in now."""
        frame = self._supply.frame(int(self._plan.same[number]))
        return frame if frame == NOWHERE else frame + int(self._plan.inside[number])

    def _otherwise(self, number: int, piece: Piece, length: int) -> Iterator[Piece]:
        """Yield what a row of the plan stands for, *length* bytes, that was in no frame; *piece* says where it is."""
        sort = self._sorts[number]
        if sort == NOTHING:
            yield piece._replace(error=None)
        elif sort == SMALL:
            yield self._small(number, piece, length)
        else:
            yield from self._alone(number, piece, length)

    def _small(self, number: int, piece: Piece, length: int) -> Piece:
        """Return inline data: they are not cached, for they are in the leaves that were read to know the file."""
        rows, extent = self._rows, self._plan.row[number]
        which = rows.inline_of[self._plan.file[number]]
        data = self._inline[rows.inline.offsets[which] : rows.inline.offsets[which + 1]]
        compression = int(rows.extents.compression[extent])
        if compression:
            try:
                data = memoryview(self._cache.filler.small(compression, data, int(rows.extents.length[extent])))
            except BtrimgError as error:
                return piece._replace(error=error)
        return Piece(piece.place, piece.size, 0, data[:length])

    def _alone(self, number: int, piece: Piece, length: int) -> Iterator[Piece]:
        """Yield what a row stands for, read through a handle; what is bad by itself."""
        rows, (place, size, start, *_) = self._plan, piece
        if rows.row[number] < 0 and length > LONGEST * PAGE:
            where = f"inode {place.inode} of subvolume {place.subvolume}"
            yield piece._replace(error=CorruptError(f"{where}: its extents make no sense together"))
            return
        file, room = self._handle_of(int(rows.file[number])), self._aside
        for at in range(start, start + length, MIB):
            stop = min(at + MIB, start + length)
            try:
                file.readinto(room[: stop - at], at)
            except BtrimgError as error:
                if length > LONGEST * PAGE:
                    yield piece._replace(offset=at, error=error)
                    return
                yield from self._by_pages(file, piece, at, stop)
            else:
                yield Piece(place, size, at, room[: stop - at])

    def _by_pages(self, file: CachedFile, piece: Piece, start: int, end: int) -> Iterator[Piece]:
        """Yield bytes [start, end) of a file page by page, for some are bad."""
        for at in range(start, end, PAGE):
            room = self._aside[: min(PAGE, end - at)]
            try:
                file.readinto(room, at)
            except BtrimgError as error:
                yield piece._replace(offset=at, error=error)
            else:
                yield piece._replace(offset=at, data=room, error=None)

    def _handle_of(self, file: int) -> CachedFile:
        """Return a file, opened; the one before is closed."""
        if self._handle is None or self._handle[0] != file:
            if self._handle:
                self._handle[1].close()
            self._handle = file, self._cache.handle_of(self._rows, self._keys, file)
        return self._handle[1]


def _bounds(sizes: Ints, most: int, rows: int) -> list[int]:
    """Return where groups of *sizes* begin, and end: *most* in all each and so many *rows*, but one row at least."""
    total = np.cumsum(sizes)
    bounds = [0]
    while bounds[-1] < len(sizes):
        before = int(total[bounds[-1] - 1]) if bounds[-1] else 0
        end = int(np.searchsorted(total, before + most, "right"))
        bounds.append(min(max(end, bounds[-1] + 1), bounds[-1] + rows, len(sizes)))
    return bounds
