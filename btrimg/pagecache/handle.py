"""Files that are read through a page cache: runs of pages, found or brought in."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from threading import Event
from time import perf_counter_ns
from typing import TYPE_CHECKING

from btrimg.errors import ChecksumError, DeviceError
from btrimg.filesystem.inode import Inode
from btrimg.pagecache.fill import Stored, stored
from btrimg.pagecache.pages import PAGE, PAGE_SHIFT, REFUSALS
from btrimg.pagecache.schemes import KIND_MASK, PACKED, SAME_OFFSET
from btrimg.pagecache.store import PageKey
from btrimg.pagecache.through import copy_out
from btrimg.units import KIB, MIB

if TYPE_CHECKING:
    from collections.abc import Callable

    from typing_extensions import Buffer

    from btrimg.pagecache.cache import Claim, PageCache
    from btrimg.pagecache.filerows import FileRows
    from btrimg.pagecache.pages import Place

    #: Pages of a file: first, the one after the last, (space, unit), number of the first, refusal, row of the extents.
    Run = tuple[int, int, tuple[int, int], int, int, int]

_ZEROS = frozenset(map(REFUSALS.index, ("hole", "prealloc")))
_NOTHING = memoryview(bytes(MIB))
_AT_ONCE = 4 * MIB // PAGE  # pages that are brought in at once, at most
_AHEAD = range(128 * KIB // PAGE, MIB // PAGE)  # pages that are read ahead: at first, and at most
_INSIDE = PAGE - 1
_BLOCK_SHIFT = 9  # pages of which the frames are remembered together
_BLOCK = (1 << _BLOCK_SHIFT) - 1
_BYTES_SHIFT = PAGE_SHIFT + _BLOCK_SHIFT
_NEAR = 1 << 10  # blocks of a file, at most: of 4 KiB each
_NOTED = 4096  # numbers that are noted before they are counted
#: kinds of keys that count the pages of a decompressed extent
_PACKED = frozenset((SAME_OFFSET, *range(PACKED, 2 * PACKED)))


class CachedFile:
    """A regular file; made by :class:`~btrimg.pagecache.cache.PageCache`. Several threads may read it at once."""

    __slots__ = (
        *("_ahead", "_cache", "_near", "_next", "_quick", "_rows", "_runs", "_sort", "_starts"),
        *("number", "place", "size"),
    )
    _remembers = True  # in which frames pages are, and looks there first

    def __init__(self, cache: PageCache, place: Place, size: int, runs: list[Run], rows: tuple[FileRows, int]) -> None:
        self._cache, self._runs, self._rows = cache, runs, rows
        self.place, self.size = place, size
        self.number = cache.account.number_of(place)
        self._starts = [run[0] for run in runs]
        # By block of pages, of each page the stamp of the frame that had it last, or 0. Only of runs that are refused
        # for the same reason, or none, as most are: so that a hit needs to know no more than the stamp.
        self._near: dict[int, array[int]] = {}
        self._sort = next((run[4] for run in runs if run[4] not in _ZEROS), 0)
        store = cache.store
        self._quick = store.memory, store.stamps, store.frame_mask, store.noted, cache.account.tag(place, self._sort)
        self._next = self._ahead = 0  # page that follows what was read last; pages that are read ahead

    def keys(self) -> list[tuple[PageKey, int]]:
        """Return the key of the first page of every run of pages, and how many there are."""
        return [(PageKey(space, unit, number), end - page) for page, end, (space, unit), number, _, _ in self._runs]

    def close(self) -> None:
        """Give up pages that nobody else can find."""
        if self._cache.scheme.name == "none":
            for page, end, (space, unit), number, _, _ in self._runs:
                self._cache.store.discard(PageKey(space, unit, number), end - page)

    def read(self, offset: int, length: int) -> bytes:
        """Return bytes [offset, offset + length), fewer at the end of the file; errors are those of `readinto`."""
        room = bytearray(max(min(length, self.size - offset), 0))
        self.readinto(room, offset)
        return bytes(room)

    def view(self) -> memoryview:
        """Return all bytes as read-only memory, mapped from where they lie in the image, verified; it may outlive all.

        Its pages are the kernel's, and count for no budget: all views of an extent share them, whatever the scheme and
        the trust domains. Errors are those of :meth:`btrimg.pagecache.views.Views.view`.
        """
        cache, (subvolume, inode) = self._cache, self.place
        with cache.store.filling:
            return cache.views.view(Inode(cache.image, cache.image.subvolume(subvolume), inode))

    def readinto(self, buffer: Buffer, offset: int = 0) -> int:
        """Fill *buffer* from *offset* on, and return how many bytes the file has there.

        Raises ChecksumError or DeviceError when they cannot be had from any copy, CorruptError for extents that make
        no sense: nothing of it is kept, and what was sound before it is. ValueError once the cache is closed.
        """
        block = self._near.get(offset >> _BYTES_SHIFT)
        if block is not None:
            memory, stamps, mask, noted, tag = self._quick
            try:
                inside, length = offset & _INSIDE, len(buffer)  # type: ignore[arg-type]
                stamp = block[offset >> PAGE_SHIFT & _BLOCK]
                frame = stamp & mask
                if 0 < length <= PAGE - inside and offset + length <= self.size and stamps[frame] == stamp:
                    at = (frame << PAGE_SHIFT) + inside
                    room = memoryview(buffer)
                    room[:] = memory[at : at + length]
                    # Nobody was kept from giving up the frame meanwhile: then these may be bytes of another page.
                    if stamps[frame] == stamp:
                        self._next = (offset >> PAGE_SHIFT) + 1
                        noted += stamp, tag
                        if len(noted) > _NOTED:
                            self._cache.store.settle()
                        return length
                    room[:] = bytes(length)
            except (IndexError, NotImplementedError, TypeError, ValueError):
                pass  # another kind of buffer, or no buffer, or a cache that is closed: told below
        return self._readinto(buffer, offset)

    def _readinto(self, buffer: Buffer, offset: int) -> int:
        if offset < 0:
            raise ValueError(f"no file has an offset of {offset}")
        room = memoryview(buffer)
        if room.format != "B" or room.ndim != 1:
            room = room.cast("B")
        length = min(len(room), self.size - offset)
        if length <= 0:
            return 0
        self._cache.store.check_open()
        account = self._cache.account
        start = perf_counter_ns() if account.by_file else 0
        try:
            self._read(room[:length], offset)
        except ValueError:  # from the memory, when somebody closes the cache
            self._cache.store.check_open()
            raise
        finally:
            account.read_took(perf_counter_ns() - start if account.by_file else 0)
        return length

    def _read(self, room: memoryview, offset: int) -> None:
        end = offset + len(room)
        first, last = offset // PAGE, -(-end // PAGE)
        refused, lock = self._cache.account.refused, self._cache.store.lock
        if first != self._next:
            self._ahead = 0
        elif not self._ahead:
            self._ahead = _AHEAD.start
        at = max(bisect_right(self._starts, first) - 1, 0)
        while at < len(self._runs) and self._runs[at][0] < last:
            run = self._runs[at]
            start, stop, refusal = max(run[0], first), min(run[1], last), run[4]
            with lock:
                refused[refusal] += stop - start
            if refusal in _ZEROS:
                _clear(room[max(start * PAGE, offset) - offset : min(stop * PAGE, end) - offset])
            else:
                self._read_run(room, offset, run, start, stop)
            at += 1
        self._next = last

    def _read_run(self, room: memoryview, offset: int, run: Run, first: int, last: int) -> None:
        """Fill *room* from pages [first, last) of one run."""
        holder, base = run[2], run[3] - run[0]
        cache = self._cache
        start = max(first * PAGE, offset)  # what comes in beside these pages is none of the room's
        room, offset = room[start - offset : last * PAGE - offset], start
        most = _AT_ONCE
        while True:
            with cache.store.lock:
                first = self._copy_found(room, offset, run, first, last)
                if first == last:
                    return
                where = stored(*self._rows, run[5])
                start, end = self._window(run, where, first, last, most)
                claim = cache.claim(holder, base + start, base + end)
            if isinstance(claim, Event):
                claim.wait()
                continue
            try:
                first = self._bring(room, offset, run, where, claim, first)
            except (ChecksumError, DeviceError):
                step = max(cache.image.volume.sectorsize // PAGE, 1)
                if most == step or end - start <= step or (where and where.packed):
                    raise
                most = step  # what is sound before the bad sector counts, and nobody asked for what was read ahead
            finally:
                cache.release(holder, claim)
            if first >= last:
                return

    def _copy_found(self, room: memoryview, offset: int, run: Run, first: int, last: int) -> int:
        """Copy pages from *first* on until one is not here; return which."""
        cache = self._cache
        store, account, base = cache.store, cache.account, run[3] - run[0]
        account.lookups += 1
        for found in store.runs_of(run[2], base + first, base + last):
            if found.page != base + first:
                break
            copy_out(
                room, offset, first, store.memory[found.frame << PAGE_SHIFT : found.frame + found.pages << PAGE_SHIFT]
            )
            store.touch(found)
            account.hit(found, self.number)
            if last - first == 1:
                self._remember(run, first)
            first += found.pages
        return first

    def _remember(self, run: Run, page: int) -> None:
        """Remember the frame that has a page, which is one of *run*, and frames beside it that have pages beside it."""
        if not self._remembers or run[4] != self._sort or self._cache.account.by_file:
            return
        store, base, number = self._cache.store, run[3] - run[0], page >> _BLOCK_SHIFT
        start = number << _BLOCK_SHIFT
        block = self._near.get(number)
        if block is None:
            if len(self._near) >= _NEAR:
                self._near.clear()
            pages = min(-(-self.size >> PAGE_SHIFT) - start, _BLOCK + 1)
            block = self._near[number] = array("q", bytes(8 * pages))
        found = store.run_with(run[2], base + page)
        first, end = max(found.page - base, run[0], start), min(found.end - base, run[1], start + len(block))
        frame = found.frame + base + first - found.page
        block[first - start : end - start] = store.stamps[frame : frame + end - first]

    def _window(self, run: Run, where: Stored | None, first: int, last: int, most: int) -> tuple[int, int]:
        """Return which pages to bring in for [first, last), none of which is here; some may be before it."""
        if where and where.packed and run[2][0] & KIND_MASK in _PACKED:
            start = first - where.inside(first)
            return start, max(start - (-where.ram_bytes // PAGE), first + 1)
        store, base = self._cache.store, run[3] - run[0]
        end = last
        if self._ahead and where and where.plain:
            end = min(max(last, first + self._ahead), run[1])
            self._ahead = min(2 * self._ahead, _AHEAD.stop)
        end = min(end, first + min(most, max(store.pages // 4, 1)))
        for found in store.runs_of(run[2], base + first, base + end):
            return first, found.page - base
        return first, end

    def _bring(self, room: memoryview, offset: int, run: Run, where: Stored | None, claim: Claim, first: int) -> int:
        """Bring claimed pages in and copy what *room* is for; return the page after them."""
        filler, base = self._cache.filler, run[3] - run[0]
        start, end = claim.start - base, claim.end - base
        if where and where.plain:
            origin = (where.logical + start * PAGE - where.offset) >> PAGE_SHIFT
            self._admit(room, offset, run, start, end, origin, lambda piece, at: filler.pages_into(piece, where, at))
            return end
        if where and where.packed:
            data = memoryview(filler.decompressed(where))
            inside = where.inside(start)
            origin = -(((where.logical >> PAGE_SHIFT) << 5) + 32 - inside)
            data = data[inside * PAGE :]
            missing = (end - start) * PAGE - len(data)
            if missing > 0:
                data = memoryview(bytes(data) + bytes(missing))
        else:
            data, origin = memoryview(filler.odd(*self._rows, run[5], start, end - start)), 0

        def copy(piece: memoryview, at: int) -> None:
            piece[:] = data[(at - start) * PAGE : (at - start) * PAGE + len(piece)]

        self._admit(room, offset, run, start, end, origin, copy, data)
        return end

    def _admit(
        self,
        room: memoryview,
        offset: int,
        run: Run,
        start: int,
        end: int,
        origin: int,
        fill: Callable[[memoryview, int], None],
        data: memoryview | None = None,
    ) -> None:
        """Bring pages [start, end) into frames by *fill*, as far as there are any, and into *room*."""
        cache = self._cache
        store, account = cache.store, cache.account
        (space, unit), base = run[2], run[3] - run[0]
        wanted = max(offset // PAGE, start), min(-(-(offset + len(room)) // PAGE), end)
        with store.lock:
            misses = max(wanted[1] - wanted[0], 0)
            store.misses += misses
            account.ahead += end - start - misses
            taken = store.take_frames(end - start)
        at = start
        while at < end:
            frames = taken.pop(0) if taken else None
            stop = at + len(frames) if frames else end
            piece = store.arena.frames(frames) if frames else memoryview(bytearray((stop - at) * PAGE))
            try:
                fill(piece, at)
            except BaseException:
                for each in (*([frames] if frames else ()), *taken):
                    store.give_frames(each)
                raise
            copy_out(room, offset, at, piece)
            if frames:
                with store.lock:
                    account.came(frames, self.number, origin + at - start if origin else 0)
                    store.admit(PageKey(space, unit, base + at), frames)
                    if misses == 1 and at <= wanted[0] < stop:
                        self._remember(run, wanted[0])
            at = stop


def _clear(room: memoryview) -> None:
    for at in range(0, len(room), MIB):
        piece = room[at : at + MIB]
        piece[:] = _NOTHING[: len(piece)]
