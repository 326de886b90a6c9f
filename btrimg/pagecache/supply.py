"""Pages of many files brought in together: each once, in the order of the devices, straight into frames."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from btrimg.errors import BtrimgError
from btrimg.pagecache.fill import stored
from btrimg.pagecache.pages import PAGE_SHIFT
from btrimg.pagecache.store import PageKey
from btrimg.units import MIB

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from btrimg.pagecache.cache import PageCache
    from btrimg.pagecache.filerows import FileRows
    from btrimg.pagecache.pages import Ints
    from btrimg.pagecache.sweepplan import Wanted

NOWHERE = -1  #: in the place of a frame
_STORED = 4 * MIB  # bytes of compressed extents that are read at once


class _Part(NamedTuple):
    """Pages of a row of what is wanted."""

    wanted: int
    skipped: int  #: pages of the row before them
    pages: int


class Supply:
    """Knows the frames of what is *wanted* of the files of *rows*, and brings in what is not in *cache*."""

    def __init__(self, cache: PageCache, rows: FileRows, wanted: Wanted) -> None:
        self._cache, self._rows, self._wanted = cache, rows, wanted
        self._holders = list(zip(wanted.space.tolist(), wanted.unit.tolist(), strict=True))
        self._frames = np.full(len(wanted.pages), NOWHERE, np.int64)  # of the first pages
        self._evicted = cache.store.evicted  # when they were so

    @property
    def current(self) -> bool:
        """Return whether frames that were told still have those pages; who asks holds the lock of the store."""
        return self._evicted == self._cache.store.evicted

    def frame(self, number: int) -> int:
        """Return the frame of the first page of a row of what is wanted; who asks holds the lock of the store.

        The pages are side by side. NOWHERE, if one of them is not here or somewhere else.
        """
        if not self.current:
            self._frames[:] = NOWHERE
            self._evicted = self._cache.store.evicted
        if self._frames[number] == NOWHERE:
            self._find(np.array([number]))
        return int(self._frames[number])

    def have(self, needed: Ints) -> tuple[Ints, int]:
        """See to it that some rows of what is wanted, in order, are here; return their frames, as of :meth:`frame`.

        And how many pages came in for it. What cannot be had, or finds no room, is nowhere.
        """
        store = self._cache.store
        with self._cache.sweeping:
            with store.lock:
                if not self.current:
                    self._frames[:] = NOWHERE
                absent = self._absent(needed[self._frames[needed] == NOWHERE])
                missed = sum(part.pages for part in absent)
                taken = store.take_frames(missed) if missed else []
            if taken:
                self._bring(self._in_order(absent), taken)
            with store.lock:
                if not self.current:
                    self._frames[:] = NOWHERE
                    self._evicted = store.evicted
                self._find(needed[self._frames[needed] == NOWHERE])
                return self._frames[needed], missed

    def _find(self, needed: Ints) -> None:
        store, wanted = self._cache.store, self._wanted
        columns = (needed, wanted.number[needed], wanted.pages[needed])
        for each, number, pages in zip(*(column.tolist() for column in columns), strict=True):
            found = store.runs_of(self._holders[each], number, number + pages)
            if found and found[0].pages == pages:
                self._frames[each] = found[0].frame

    def _absent(self, needed: Ints) -> list[_Part]:
        """Return the pages that are not here, each once; *needed* is in order of key."""
        store, wanted = self._cache.store, self._wanted
        absent: list[_Part] = []
        columns = (needed, wanted.number[needed], wanted.pages[needed])
        holder, reached = (-1, -1), 0
        for each, number, pages in zip(*(column.tolist() for column in columns), strict=True):
            if self._holders[each] != holder:
                holder, reached = self._holders[each], number
            at, end = max(number, reached), number + pages
            reached = max(reached, end)
            for run in store.runs_of(holder, at, end) if at < end else ():
                if at < run.page:
                    absent.append(_Part(each, at - number, run.page - at))
                at = run.end
            if at < end:
                absent.append(_Part(each, at - number, end - at))
        return absent

    def _in_order(self, parts: list[_Part]) -> list[_Part]:
        """Return *parts* in the order of addresses: plain ones with checksums, those without, compressed ones."""
        wanted = self._wanted
        number = np.array([part.wanted for part in parts])
        skipped = np.array([part.skipped for part in parts])
        packed, unchecked = wanted.stored[number] > 0, wanted.unchecked[number]
        order = np.lexsort((skipped, wanted.source[number] + (skipped << PAGE_SHIFT) * ~packed, unchecked, packed))
        return [parts[at] for at in order.tolist()]

    def _bring(self, parts: list[_Part], taken: list[range]) -> None:
        """Bring pages into frames that were taken, as far as these go, and let those that are sound be found."""
        store = self._cache.store
        while taken:
            frames = taken.pop(0)
            here, parts = _cut(parts, len(frames))
            try:
                bad = self._fill(store.arena.frames(frames), here)
            except BaseException:
                for each in (frames, *taken):
                    store.give_frames(each)
                raise
            with store.lock:
                self._admit(frames, here, bad)

    def _fill(self, room: memoryview, parts: list[_Part]) -> set[int]:
        """Fill *room* with the pages of *parts*; return which of its pages are bad."""
        wanted, filler = self._wanted, self._cache.filler
        number = np.array([part.wanted for part in parts])
        start = np.cumsum([0, *(part.pages for part in parts)])
        source = wanted.source[number] + (np.array([part.skipped for part in parts]) << PAGE_SHIFT)
        packed, unchecked = wanted.stored[number] > 0, wanted.unchecked[number] != 0
        checked, plain = int(np.count_nonzero(~packed & ~unchecked)), int(np.count_nonzero(~packed))
        bad: set[int] = set()
        for low, high in ((0, checked), (checked, plain)):
            if low < high:
                ranges = _merged(source[low:high], np.diff(start[low : high + 1]) << PAGE_SHIFT)
                first, last = int(start[low]), int(start[high])
                piece = room[first << PAGE_SHIFT : last << PAGE_SHIFT]
                found = filler.sectors_into(piece, ranges, checked=low < checked)
                bad.update(first + sector for sector in found)
        at = plain
        while at < len(parts):
            end = self._together(parts, at)
            self._unpack(room, parts[at:end], int(start[at]), bad)
            at = end
        return bad

    def _together(self, parts: list[_Part], at: int) -> int:
        """Return up to which part, from *at* on, compressed extents are read together."""
        wanted, total = self._wanted, 0
        first = wanted.unchecked[parts[at].wanted]
        for number in range(at, len(parts)):
            total += int(wanted.stored[parts[number].wanted])
            if number > at and (total > _STORED or wanted.unchecked[parts[number].wanted] != first):
                return number
        return len(parts)

    def _unpack(self, room: memoryview, parts: list[_Part], page: int, bad: set[int]) -> None:
        """Fill in the pages of compressed extents from *page* of *room* on; those that cannot be had are *bad*."""
        wanted, size = self._wanted, self._cache.image.volume.sectorsize
        places = [(int(wanted.source[part.wanted]), int(wanted.stored[part.wanted])) for part in parts]
        extents = list(dict.fromkeys(places))
        data = memoryview(bytearray(sum(length for _, length in extents)))
        checked = not wanted.unchecked[parts[0].wanted]
        unsound = set(self._cache.filler.sectors_into(data, extents, checked=checked))
        start, at = {}, 0
        for extent in extents:
            start[extent], at = at, at + extent[1]
        last, plain = (-1, -1, -1), b""
        for part, (logical, length) in zip(parts, places, strict=True):
            at = start[logical, length]
            row = int(wanted.row[part.wanted])
            if last != (logical, length, row):
                sectors = range(at // size, (at + length) // size)
                plain = self._plain(part.wanted, data[at : at + length]) if unsound.isdisjoint(sectors) else b""
                last = logical, length, row
            piece = room[page << PAGE_SHIFT : page + part.pages << PAGE_SHIFT]
            if plain:
                skipped = int(wanted.skipped[part.wanted]) + part.skipped << PAGE_SHIFT
                used = memoryview(plain)[skipped : skipped + len(piece)]
                piece[: len(used)] = used
                piece[len(used) :] = bytes(len(piece) - len(used))
            else:
                bad.update(range(page, page + part.pages))
            page += part.pages

    def _plain(self, number: int, data: memoryview) -> bytes:
        """Return what a compressed extent holds; nothing if it is broken."""
        where = stored(self._rows, int(self._wanted.first[number]), int(self._wanted.row[number]))
        try:
            return self._cache.filler.unpacked(where, data) if where else b""
        except BtrimgError:
            return b""

    def _admit(self, frames: range, parts: Sequence[_Part], bad: set[int]) -> None:
        """Let the pages of *parts* be found, which are in *frames* one after the other, unless they are *bad*."""
        store, account, wanted = self._cache.store, self._cache.account, self._wanted
        at = frames.start
        runs: list[tuple[tuple[int, int], int, int, int]] = []  # holder, number, frame, frame after
        for part in parts:
            holder, number = self._holders[part.wanted], int(wanted.number[part.wanted]) + part.skipped
            end = at + part.pages
            account.came(range(at, end), int(wanted.first[part.wanted]), self._origin(part))
            for low, high in _without(at, end, frames.start, bad) if bad else ((at, end),):
                key = number + low - at
                if runs and runs[-1][0] == holder and runs[-1][3] == low and runs[-1][1] + low - runs[-1][2] == key:
                    runs[-1] = *runs[-1][:3], high
                else:
                    runs.append((holder, key, low, high))
            at = end
        for holder, number, low, high in runs:
            store.admit(PageKey(*holder, number), range(low, high))
        for page in bad:
            store.give_frames(range(frames.start + page, frames.start + page + 1))
        if at < frames.stop:
            store.give_frames(range(at, frames.stop))

    def _origin(self, part: _Part) -> int:
        """Return what says where on disk the pages of a part are, as the statistics have it."""
        wanted = self._wanted
        page = int(wanted.source[part.wanted]) >> PAGE_SHIFT
        if wanted.stored[part.wanted]:
            return -((page << 5) + 32 - int(wanted.skipped[part.wanted]) - part.skipped)
        return page + part.skipped


def _cut(parts: list[_Part], pages: int) -> tuple[list[_Part], list[_Part]]:
    """Return *parts* of up to so many pages, and the rest."""
    for at, part in enumerate(parts):
        if part.pages > pages:
            head = [part._replace(pages=pages)] if pages else []
            rest = part._replace(skipped=part.skipped + pages, pages=part.pages - pages)
            return [*parts[:at], *head], [rest, *parts[at + 1 :]]
        pages -= part.pages
    return parts, []


def _merged(start: Ints, length: Ints) -> list[tuple[int, int]]:
    """Return ranges, those that follow each other as one."""
    first = np.flatnonzero(np.append(True, start[1:] != (start + length)[:-1]))
    total = np.add.reduceat(length, first)
    return list(zip(start[first].tolist(), total.tolist(), strict=True))


def _without(start: int, end: int, base: int, bad: set[int]) -> Iterator[tuple[int, int]]:
    """Yield the parts of [start, end) that are not *bad*, which counts from *base*."""
    for at in range(start, end):
        if at - base in bad:
            if start < at:
                yield start, at
            start = at + 1
    if start < end:
        yield start, end
