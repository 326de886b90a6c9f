"""Many files read once each, in order: the bulk path of a page cache.

What the next files need and is not here comes in together. Then a file costs some lines of Python and a copy.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice, pairwise, repeat
from operator import getitem
from typing import TYPE_CHECKING, Any

import numpy as np

from btrimg.errors import BtrimgError, CorruptError
from btrimg.named import NamedTuple
from btrimg.pagecache.filling import Fillers, Filling
from btrimg.pagecache.pages import PAGE, PAGE_SHIFT, Place
from btrimg.pagecache.supply import NOWHERE, Here, Supply
from btrimg.pagecache.sweepplan import LONGEST, NOTHING, SMALL, plan
from btrimg.units import MIB

if TYPE_CHECKING:
    from collections.abc import Iterator

    from btrimg.pagecache.cache import PageCache
    from btrimg.pagecache.dirty import PageRun
    from btrimg.pagecache.filerows import FileRows
    from btrimg.pagecache.handle import CachedFile
    from btrimg.pagecache.pages import Ints, KeyRuns

_BATCH_PAGES, _BATCH_ROWS = 256 * MIB // PAGE, 1 << 15  # of files that are looked at together
_PLAIN = 1 << 14  # inline data, of a page at most, that are kept decompressed
_NONE = memoryview(b"")


class Piece(NamedTuple):
    """Bytes of a file. What lies between its pieces, and behind the last one, is zeros."""

    place: Place
    size: int  #: of the file
    offset: int
    data: memoryview  #: read-only; good until the next piece is asked for
    error: BtrimgError | None = None  #: why there are no *data*, though there should be some


_new_place, _new_piece = partial(tuple.__new__, Place), partial(tuple.__new__, Piece)  # quicker than ``_make``


class _Batch(NamedTuple):
    """Rows of a plan, from number *start* on, as lists: numpy's numbers take longer one by one."""

    start: int
    subvolume: list[int]
    inode: list[int]
    size: list[int]
    offset: list[int]
    length: list[int]

    def piece(self, at: int, data: memoryview = _NONE, error: BtrimgError | None = None) -> Piece:
        """Return *data*, or an error, as what a row stands for."""
        return Piece(Place(self.subvolume[at], self.inode[at]), self.size[at], self.offset[at], data, error)


class Sweep:
    """Reads the files of *rows*, once each, through *cache*; those that are *alone* through handles of their own."""

    def __init__(self, cache: PageCache, rows: FileRows, keys: KeyRuns, *, alone: bool) -> None:
        self._cache, self._rows, self._keys = cache, rows, keys
        # While one batch is handed out, one is here already, and one comes in: three quarters of all frames at most.
        self._most = min(cache.store.pages // 4, _BATCH_PAGES)
        self._plan = plan(rows, keys, self._most, alone=alone)
        self._memory = cache.store.memory.toreadonly()
        self._aside = memoryview(bytearray(MIB))  # for what is not handed out where it is
        self._inline = memoryview(rows.inline.data.tobytes())
        self._plain: dict[int, memoryview] = {}  # by number: inline data that were compressed
        self._handle: tuple[int, CachedFile] | None = None
        self._found: list[tuple[int, int, int]] = []  # frame, pages, file of what was scattered and not counted yet
        self._needed: tuple[Ints, Ints] | None = None  # by the part that comes next

    def pieces(self) -> Iterator[Piece]:
        """Yield what is not holes of all files, in order; of a file that is nothing else, one empty piece."""
        rows, store = self._plan, self._cache.store
        pages = np.append(rows.wanted.pages, 0)[rows.same]  # the last one is for those that need none: -1
        parts = list(pairwise(_bounds(pages, self._most, _BATCH_ROWS)))
        filling = Filling(self._cache.filler, store.arena, self._rows, rows.wanted)
        with (
            Fillers(filling, int(rows.wanted.pages.sum())) as fillers,
            ThreadPoolExecutor(1) as ahead,
            ThreadPoolExecutor(fillers.threads) as readers,
        ):
            supply = Supply(self._cache, rows.wanted, fillers, readers)
            self._cache.supplies.append(supply)
            coming = [ahead.submit(self._bring, supply, *parts[:2])] if parts else []
            try:
                for number, part in enumerate(parts):
                    frame, here = coming.pop().result()
                    if number + 1 < len(parts):
                        coming.append(ahead.submit(self._bring, supply, *parts[number + 1 : number + 3]))
                    try:
                        yield from self._batch(*part, frame, here)
                    finally:
                        with store.lock:
                            self._cache.account.found(*np.array(self._found, np.int64).reshape(-1, 3).T)
                            self._found.clear()
                        here.give_up(store)
            finally:
                try:
                    for each in coming:
                        each.result()[1].give_up(store)
                finally:
                    with self._cache.sweeping:
                        supply.close()
                        self._cache.supplies.remove(supply)
                    if self._handle:
                        self._handle[1].close()

    def _bring(self, supply: Supply, part: tuple[int, int], then: tuple[int, int] = (0, 0)) -> tuple[Ints, Here]:
        """Bring in what a part of the plan needs, as far as can be; return in which frame each row starts, or NOWHERE.

        What the part needs that comes *then* is on its way from here on.
        """
        rows, (start, end) = self._plan, part
        which, needed = self._needed if self._needed else self._needs(part)
        self._needed = self._needs(then)
        here = supply.have(needed, self._needed[1])
        frame = np.append(NOWHERE, here.frames)[which]
        found = np.flatnonzero(frame != NOWHERE)
        frame[found] += rows.inside[start:end][found]
        pages, file, refusal = rows.pages[start:end], rows.file[start:end], rows.refusal[start:end]
        self._cache.account.swept(frame[found], pages[found], file[found], refusal[found], here.missed)
        return frame, here

    def _needs(self, part: tuple[int, int]) -> tuple[Ints, Ints]:
        """Return which of the rows wanted, from 1 on, each row of a part of the plan needs, 0 for none; and these."""
        needed, which = np.unique(np.append(-1, self._plan.same[slice(*part)]), return_inverse=True)
        return which[1:], needed[1:]

    def _batch(self, start: int, end: int, frame: Ints, here: Here) -> Iterator[Piece]:
        """Yield what rows [start, end) of the plan stand for."""
        rows, files = self._plan, self._rows.files
        file = rows.file[start:end]
        size, offset = files.size[file], rows.page[start:end] << PAGE_SHIFT
        length = np.minimum(rows.pages[start:end], -(-(size - offset) >> PAGE_SHIFT)) << PAGE_SHIFT
        length = np.minimum(length, size - offset)
        columns = (files.subvolume[file], files.inode[file], size, offset, length)
        batch = _Batch._make([start, *(column.tolist() for column in columns)])
        data, others = self._ready(start, end, frame, length)
        # Most rows are ready: theirs are made without a line of Python for each, which would take as long as the rest.
        places = map(_new_place, zip(batch.subvolume, batch.inode))  # noqa: B905  # quicker so; they are as long
        ready = map(_new_piece, zip(places, batch.size, batch.offset, data, repeat(None)))
        done = 0
        for at in others:
            yield from islice(ready, at - done)
            next(ready)
            yield from self._other(batch, at, here)
            done = at + 1
        yield from ready

    def _ready(self, start: int, end: int, frame: Ints, length: Ints) -> tuple[Iterator[Any], list[int]]:
        """Return the bytes of rows [start, end) that are in frames side by side, or at hand; and which are others.

        The former are made when they are asked for. At hand are inline data that are not compressed: they are not
        cached, for they are in the leaves that were read to know the files.
        """
        rows, inline = self._plan, self._rows.inline.offsets
        sort = rows.sort[start:end]
        low, high = frame << PAGE_SHIFT, (frame << PAGE_SHIFT) + length
        small = np.flatnonzero(sort == SMALL)
        small = small[self._rows.extents.compression[rows.row[start + small]] == 0]
        number = self._rows.inline_of[rows.file[start + small]]
        low[small] = inline[number]
        high[small] = np.minimum(inline[number + 1], inline[number] + length[small])
        where = np.zeros(end - start, np.int64)
        where[small] = 1
        low[sort == NOTHING] = high[sort == NOTHING] = 0
        memories = map((self._memory, self._inline).__getitem__, where.tolist())
        data = map(getitem, memories, map(slice, low.tolist(), high.tolist()))
        return data, np.flatnonzero(low < 0).tolist()

    def _other(self, batch: _Batch, at: int, here: Here) -> Iterator[Piece]:
        """Yield what a row stands for that is not ready."""
        number = batch.start + at
        if self._plan.sort[number] == SMALL:
            yield self._decoded(batch, at)
        elif (same := int(self._plan.same[number])) in here.scattered:
            yield from self._scattered(here.scattered[same], batch, at)
        else:
            yield from self._alone(batch, at)

    def _scattered(self, runs: list[PageRun], batch: _Batch, at: int) -> Iterator[Piece]:
        """Yield the bytes of a row whose pages are in several places."""
        rows, number = self._plan, batch.start + at
        first, file, piece = int(rows.inside[number]), int(rows.file[number]), batch.piece(at)
        last, left = first + int(rows.pages[number]), batch.length[at]
        for run in runs:
            if run.page < last and first < run.end:
                part = run.part(first, last)
                self._found.append((part.frame, part.pages, file))
                place, length = part.frame << PAGE_SHIFT, min(part.pages << PAGE_SHIFT, left)
                yield piece._replace(data=self._memory[place : place + length])
                piece, left = piece._replace(offset=piece.offset + length), left - length

    def _decoded(self, batch: _Batch, at: int) -> Piece:
        """Return inline data that are compressed."""
        rows, number = self._rows, batch.start + at
        which, extent = int(rows.inline_of[self._plan.file[number]]), int(self._plan.row[number])
        plain = self._plain.get(which)
        if plain is None:
            data = self._inline[int(rows.inline.offsets[which]) : int(rows.inline.offsets[which + 1])]
            compression, length = int(rows.extents.compression[extent]), int(rows.extents.length[extent])
            try:
                plain = memoryview(self._cache.filler.small(compression, data, length))
            except BtrimgError as error:
                return batch.piece(at, error=error)
            if len(self._plain) >= _PLAIN:
                self._plain.clear()
            self._plain[which] = plain
        return batch.piece(at, plain[: batch.length[at]])

    def _alone(self, batch: _Batch, at: int) -> Iterator[Piece]:
        """Yield what a row stands for, read through a handle; what is bad by itself."""
        number, start, length = batch.start + at, batch.offset[at], batch.length[at]
        if self._plan.row[number] < 0 and length > LONGEST * PAGE:
            where = f"inode {batch.inode[at]} of subvolume {batch.subvolume[at]}"
            yield batch.piece(at, error=CorruptError(f"{where}: its extents make no sense together"))
            return
        file, room, piece = self._handle_of(int(self._plan.file[number])), self._aside, batch.piece(at)
        for low in range(start, start + length, MIB):
            high = min(low + MIB, start + length)
            try:
                file.readinto(room[: high - low], low)
            except BtrimgError as error:
                if length > LONGEST * PAGE:
                    yield piece._replace(offset=low, error=error)
                    return
                yield from self._by_pages(file, piece, low, high)
            else:
                yield piece._replace(offset=low, data=room[: high - low])

    def _by_pages(self, file: CachedFile, piece: Piece, start: int, end: int) -> Iterator[Piece]:
        """Yield bytes [start, end) of a file page by page, for some are bad."""
        for at in range(start, end, PAGE):
            room = self._aside[: min(PAGE, end - at)]
            try:
                file.readinto(room, at)
            except BtrimgError as error:
                yield piece._replace(offset=at, error=error)
            else:
                yield piece._replace(offset=at, data=room)

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
