"""Pages of many files brought in together: each once, in the order of the devices, straight into frames."""

from __future__ import annotations

from concurrent.futures import wait
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from btrimg.named import NamedTuple
from btrimg.pagecache.filling import Packed, Plain
from btrimg.pagecache.pages import PAGE, PAGE_SHIFT
from btrimg.trees.batches import ranges
from btrimg.units import MIB

if TYPE_CHECKING:
    from collections.abc import Iterator
    from concurrent.futures import Executor, Future

    from btrimg.pagecache.cache import PageCache
    from btrimg.pagecache.dirty import PageRun
    from btrimg.pagecache.filling import Fillers
    from btrimg.pagecache.pages import Ints
    from btrimg.pagecache.store import PageStore
    from btrimg.pagecache.sweepplan import Wanted

NOWHERE = -1  #: in the place of a frame
_TOGETHER = 32 * MIB // PAGE  # pages that are let be found together
_AT_ONCE = 8 * MIB  # bytes that are one job
_STORED = MIB  # bytes of compressed extents that are one job


class _Parts(NamedTuple):
    """Columns, a row for each run of pages of a row of what is wanted."""

    wanted: Ints
    skipped: Ints  #: pages of the row before them
    pages: Ints

    def take(self, which: Ints | slice) -> _Parts:
        """Return some rows."""
        return _Parts(*(column[which] for column in self))

    @property
    def start(self) -> Ints:
        """Return how many pages there are before each, and in all."""
        return np.append(0, np.cumsum(self.pages))


class Here(NamedTuple):
    """Where rows of what is wanted are."""

    frames: Ints  #: of the first page of each; NOWHERE where pages are missing, or not side by side
    scattered: dict[int, list[PageRun]]  #: the latter, by row; pages count from its first
    pinned: list[Ints]  #: all these frames, some of them twice
    missed: int  #: pages that came in for it

    def give_up(self, store: PageStore) -> None:
        """Unpin all frames."""
        for frames in self.pinned:
            store.unpin(frames)
        self.pinned.clear()


class _Group(NamedTuple):
    """Pages that come in together."""

    frames: range
    parts: _Parts
    jobs: list[Future[list[int]]]


class _Coming(NamedTuple):
    """Pages that were asked for."""

    pages: int
    groups: list[_Group]

    @property
    def wanted(self) -> Ints:
        """Return the rows of what is wanted that the pages on their way are of."""
        return np.concatenate([np.empty(0, np.int64), *(group.parts.wanted for group in self.groups)])

    def give_up(self, store: PageStore) -> None:
        """Give back frames, when nobody writes to them any more."""
        wait([job for group in self.groups for job in group.jobs])
        for group in self.groups:
            store.give_frames(group.frames)
        self.groups.clear()


class Supply:
    """Knows the frames of what is *wanted*; brings in what is not in *cache* by *fillers*, from threads of *pool*."""

    def __init__(self, cache: PageCache, wanted: Wanted, fillers: Fillers, pool: Executor) -> None:
        self._cache, self._wanted, self._fillers, self._pool = cache, wanted, fillers, pool
        self._holders: list[tuple[int, int]] = list(zip(wanted.space.tolist(), wanted.unit.tolist(), strict=True))
        self._frames = np.full(len(wanted.pages), NOWHERE, np.int64)  # of the first pages
        self._neighbours = _neighbours(wanted)
        self._evicted = cache.store.evicted  # when they were so
        self._coming: _Coming | None = None  # for what is needed next

    def have(self, needed: Ints, then: Ints) -> Here:
        """See to it that some rows of what is wanted, in order, are here; begin with those that are needed *then*.

        The latter are asked for while the last of the former are still coming in, so that there is always something to
        do: all but those that may need the same pages.
        """
        store, here = self._cache.store, Here(np.full(len(needed), NOWHERE), {}, [], 0)
        with self._cache.sweeping:
            coming = self._coming or self._ask(needed)
            self._coming = None
            try:
                self._let_in(coming, but=1)
                missing = self._find(here, needed, np.arange(len(needed)))
                same = np.isin(self._neighbours[then], self._neighbours[coming.wanted])
                if len(then):
                    self._coming = self._ask(then[~same])
                self._let_in(coming)
                self._find(here, needed, missing)
                if self._coming and same.any():
                    more = self._ask(then[same])
                    self._coming = _Coming(self._coming.pages + more.pages, self._coming.groups + more.groups)
            except BaseException:
                coming.give_up(store)
                here.give_up(store)
                raise
        return here._replace(missed=coming.pages)

    def close(self) -> None:
        """Give back the frames of what is still coming in; who closes the cache, or brings pages in, does that."""
        if self._coming:
            self._coming.give_up(self._cache.store)
            self._coming = None

    def _forget_if_any_left(self) -> None:
        """Forget in which frames pages were, if some have gone since."""
        if self._evicted != self._cache.store.evicted:
            self._frames[:] = NOWHERE
            self._evicted = self._cache.store.evicted

    def _find(self, here: Here, needed: Ints, missing: Ints) -> Ints:
        """Find where *missing* ones of the rows that are *needed* are, and pin them; return which are missing still."""
        store, wanted = self._cache.store, self._wanted
        with store.lock:
            store.check_open()
            self._forget_if_any_left()
            rows = needed[missing]
            scattered = self._look(rows[self._frames[rows] == NOWHERE])
            here.frames[missing] = frames = self._frames[rows]
            here.scattered.update(scattered)
            found = frames != NOWHERE
            used = np.zeros(store.pages, np.bool_)
            used[ranges(frames[found], wanted.pages[rows[found]])] = True
            for runs in scattered.values():
                for run in runs:
                    used[run.frame : run.frame + run.pages] = True
            here.pinned.append(np.flatnonzero(used))
            store.pin(here.pinned[-1])
        return missing.compress(~found & ~np.isin(rows, list(scattered)))

    def _look(self, needed: Ints) -> dict[int, list[PageRun]]:
        """Look up frames; return where pages are of rows that are all here, but not side by side."""
        store, wanted = self._cache.store, self._wanted
        scattered: dict[int, list[PageRun]] = {}
        columns = (needed, wanted.number[needed], wanted.pages[needed])
        for each, number, pages in zip(*(column.tolist() for column in columns), strict=True):
            found = store.runs_of(self._holders[each], number, number + pages)
            if found and found[0].pages == pages:
                self._frames[each] = found[0].frame
            elif sum(run.pages for run in found) == pages:
                scattered[each] = [run._replace(page=run.page - number) for run in found]
        return scattered

    def _absent(self, needed: Ints) -> _Parts:
        """Return the pages that are not here, each once; *needed* is in order of key."""
        store, wanted = self._cache.store, self._wanted
        absent: list[tuple[int, int, int]] = []
        columns = (needed, wanted.number[needed], wanted.pages[needed])
        holder, reached = (-1, -1), 0
        for each, number, pages in zip(*(column.tolist() for column in columns), strict=True):
            if self._holders[each] != holder:
                holder, reached = self._holders[each], number
            at, end = max(number, reached), number + pages
            reached = max(reached, end)
            for run in store.runs_of(holder, at, end) if at < end else ():
                if at < run.page:
                    absent.append((each, at - number, run.page - at))
                at = run.end
            if at < end:
                absent.append((each, at - number, end - at))
        return _Parts(*np.array(absent, np.int64).reshape(-1, 3).T)

    def _in_order(self, parts: _Parts) -> _Parts:
        """Return *parts* in the order of addresses: plain ones with checksums, those without, compressed ones."""
        wanted, number = self._wanted, parts.wanted
        packed = wanted.stored[number] > 0
        source = wanted.source[number] + np.where(packed, 0, parts.skipped << PAGE_SHIFT)
        return parts.take(np.lexsort((parts.skipped, source, wanted.unchecked[number], packed)))

    def _ask(self, needed: Ints) -> _Coming:
        """Let what is not here of some rows come in, into frames that are taken for it, as far as there are any."""
        store = self._cache.store
        with store.lock:
            store.check_open()
            self._forget_if_any_left()
            absent = self._absent(needed[self._frames[needed] == NOWHERE])
            pages = int(absent.pages.sum())
            taken = store.take_frames(pages) if pages else []
        parts = self._in_order(absent)
        groups: list[_Group] = []
        for frames in taken:
            here, parts = _cut(parts, len(frames))
            start = (frames.start + here.start).tolist()
            start[-1] = frames.stop
            for first, last in _groups(here.pages, _TOGETHER):  # no part in two groups: it may be compressed
                some = here.take(slice(first, last))
                jobs = [self._pool.submit(self._fillers.do, job) for job in self._jobs(start[first], some)]
                groups.append(_Group(range(start[first], start[last]), some, jobs))
        return _Coming(pages, groups)

    def _let_in(self, coming: _Coming, *, but: int = 0) -> None:
        """Let pages that are sound be found, while others are still coming in; *but* so many groups are left out."""
        while len(coming.groups) > but:
            frames, parts, jobs = coming.groups[0]
            bad = sorted(frame - frames.start for job in jobs for frame in job.result())
            del coming.groups[0]
            with self._cache.store.lock:
                self._admit(frames, parts, bad)

    def _jobs(self, frame: int, parts: _Parts) -> Iterator[Plain | Packed]:
        """Yield what is to be done to fill frames from *frame* on with the pages of *parts*."""
        wanted, number = self._wanted, parts.wanted
        packed, unchecked = wanted.stored[number] > 0, wanted.unchecked[number] != 0
        checked, plain = int(np.count_nonzero(~packed & ~unchecked)), int(np.count_nonzero(~packed))
        source, length = wanted.source[number] + (parts.skipped << PAGE_SHIFT), parts.pages << PAGE_SHIFT
        start = (frame + parts.start).tolist()
        for low, high in ((0, checked), (checked, plain)):
            for first, last in _groups(length[low:high], _AT_ONCE):
                part = slice(low + first, low + last)
                yield Plain(start[low + first], _merged(source[part], length[part]), low < checked)
        # Compressed extents that are checked, and those that are not, some at a time.
        middle = plain + int(np.count_nonzero(packed & ~unchecked))
        for low, high in ((plain, middle), (middle, len(number))):
            for first, last in _groups(wanted.stored[number[low:high]], _STORED):
                some = parts.take(slice(low + first, low + last))
                yield Packed(start[low + first], *(column.tolist() for column in some))

    def _admit(self, frames: range, parts: _Parts, bad: list[int]) -> None:
        """Let the pages of *parts* be found, which are in *frames* one after the other, unless they are *bad*."""
        store, wanted, number = self._cache.store, self._wanted, parts.wanted
        start = parts.start
        total = int(start[-1])
        inside = np.arange(total) - np.repeat(start[:-1], parts.pages) + np.repeat(parts.skipped, parts.pages)
        page = np.repeat(number, parts.pages)  # of each frame, the row of what is wanted
        stored_page = wanted.source[page] >> PAGE_SHIFT
        packed = wanted.stored[page] > 0
        origin = np.where(packed, inside + wanted.skipped[page] - (stored_page << 5) - 32, stored_page + inside)
        self._cache.account.came_many(frames[:total], wanted.first[page], origin)
        sound = np.ones(total, np.bool_)
        sound[bad] = False
        here = np.flatnonzero(sound)
        page, key = page[here], (wanted.number[page] + inside)[here]
        apart = (here[1:] != here[:-1] + 1) | (key[1:] != key[:-1] + 1)
        apart |= (wanted.space[page[1:]] != wanted.space[page[:-1]]) | (wanted.unit[page[1:]] != wanted.unit[page[:-1]])
        first = np.flatnonzero(np.append(True, apart)[: len(here)])
        holders = map(self._holders.__getitem__, page[first].tolist())
        columns = (key[first], frames.start + here[first], np.diff(np.append(first, len(here))))
        mine = store.admit_runs(zip(holders, *(column.tolist() for column in columns), strict=True)) == len(here)
        for at in bad:
            store.give_frames(range(frames.start + at, frames.start + at + 1))
        if total < len(frames):
            store.give_frames(range(frames.start + total, frames.stop))
        if mine and not bad:
            whole = parts.pages == wanted.pages[number]
            self._frames[number[whole]] = frames.start + start[:-1][whole]


def _neighbours(wanted: Wanted) -> Ints:
    """Return a number for each row of what is wanted: the same for rows that may have pages in common, in chains."""
    line = np.cumsum(np.append(False, (np.diff(wanted.space) != 0) | (np.diff(wanted.unit) != 0))[: len(wanted.space)])
    bits = int(line.max(initial=0)).bit_length()
    number, last = wanted.number, wanted.number + wanted.pages - 1
    coarse = max(int(last.max(initial=0)).bit_length() + bits - 62, 0)  # for addresses that no filesystem has
    start = (line << 62 - bits) + (number >> coarse)
    reached = np.maximum.accumulate((line << 62 - bits) + (last >> coarse))
    return np.cumsum(np.append(True, start[1:] > reached[:-1])[: len(start)])


def _cut(parts: _Parts, pages: int) -> tuple[_Parts, _Parts]:
    """Return *parts* of up to so many pages, and the rest."""
    start = parts.start
    at = int(np.searchsorted(start, pages, "right")) - 1  # the part that goes on behind, if there is one
    if at == len(parts.pages):
        return parts, parts.take(slice(0, 0))
    head, rest = parts.take(slice(0, at + 1)), _Parts(*(column[at:].copy() for column in parts))
    inside = pages - int(start[at])
    head = head._replace(pages=np.append(head.pages[:-1], inside)) if inside else parts.take(slice(0, at))
    rest.skipped[0] += inside
    rest.pages[0] -= inside
    return head, rest


def _groups(sizes: Ints, most: int) -> Iterator[tuple[int, int]]:
    """Yield where groups of *sizes* begin and end, each about *most* in all."""
    group = (np.cumsum(sizes) - 1) // most
    return pairwise([*np.flatnonzero(np.diff(group, prepend=-1)).tolist(), len(sizes)])


def _merged(start: Ints, length: Ints) -> list[tuple[int, int]]:
    """Return ranges, those that follow each other as one."""
    first = np.flatnonzero(np.append(True, start[1:] != (start + length)[:-1]))
    total = np.add.reduceat(length, first)
    return list(zip(start[first].tolist(), total.tolist(), strict=True))
