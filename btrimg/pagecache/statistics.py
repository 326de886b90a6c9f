"""What a page cache did, and what it has: counters, and whose the pages are."""

from __future__ import annotations

import sys
from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

from btrimg.named import NamedTuple
from btrimg.pagecache.pages import PAGE, REFUSALS, Place
from btrimg.trees.batches import ranges

if TYPE_CHECKING:
    from btrimg.pagecache.dirty import PageRun
    from btrimg.pagecache.pages import Codes, Ints
    from btrimg.pagecache.store import PageStore

_REFUSAL_BITS = (len(REFUSALS) - 1).bit_length()


class Use(NamedTuple):
    """Bytes in memory that a file uses."""

    first: int  #: of pages that it brought in
    proportional: float  #: of pages that it read, each divided by how many files did (PSS)


class Statistics(NamedTuple):
    """A page cache at one moment. Times, and what is said by file, are zero or empty unless accounts are kept."""

    reads: int  #: calls
    hits: int  #: pages that were found
    misses: int  #: pages that were read from the devices for somebody who waited
    shared_hits: int  #: of the hits, those of pages that another file brought in
    ahead: int  #: pages brought in that nobody had asked for
    refused: dict[str, int]  #: pages that were read and that the scheme does not share, by reason
    resident: int  #: bytes
    budget: int  #: bytes
    duplicates: int  #: bytes in memory that are there once more: of the same place on disk
    evicted: int  #: pages
    sharers_of_evicted: int  #: files that had read them, added up: what it costs to find them all
    lookups: int  #: in the index of pages
    nanoseconds: int  #: spent in reads
    bookkeeping: int  #: bytes that the index and these accounts take, the policy's not counted
    wrong: int  #: pages that were read wrong, which happens under ``device-posted``
    uses: dict[Place, Use]  #: by file


class Account:
    """Counts for one cache; who counts holds the lock of its store."""

    def __init__(self, store: PageStore, *, by_file: bool) -> None:
        self._store, self.by_file = store, by_file
        self.reads = self.shared_hits = self.lookups = self.nanoseconds = self.wrong = self.ahead = 0
        self.refused = [0] * len(REFUSALS)
        self._first = np.full(store.pages, -1, np.int32)  # number of the file that brought each frame in
        self._origin = np.zeros(store.pages, np.int64)  # where its bytes are on disk; 0: nowhere in particular
        self._files: list[Place] = []
        self._numbers: dict[Place, int] = {}
        self._sharers: dict[int, set[int]] = {}  # by frame
        self._sharers_of_evicted = 0
        store.leaving = self._left if by_file else None
        store.counting = self._noted

    def number_of(self, place: Place) -> int:
        """Return the number of a file, the same for all its readers."""
        number = self._numbers.setdefault(place, len(self._files))
        if number == len(self._files):
            self._files.append(place)
        return number

    def came(self, frames: range, file: int, origin: int) -> None:
        """Note that *file* brought pages in, which follow each other from *origin* on."""
        self._first[frames.start : frames.stop] = file
        self._origin[frames.start : frames.stop] = np.arange(origin, origin + len(frames)) if origin else 0
        if self.by_file:
            for frame in frames:
                self._sharers[frame] = {file}

    def came_many(self, frames: range, file: Ints, origin: Ints) -> None:
        """Note for each of *frames* which file brought it in, and from where; accounts by file are not kept."""
        self._first[frames.start : frames.stop] = file
        self._origin[frames.start : frames.stop] = origin

    def hit(self, run: PageRun, file: int) -> None:
        """Note that *file* found pages."""
        if run.pages == 1:
            self.shared_hits += bool(self._first[run.frame] != file)
        else:
            self.shared_hits += int(np.count_nonzero(self._first[run.frame : run.frame + run.pages] != file))
        if self.by_file:
            for frame in range(run.frame, run.frame + run.pages):
                self._sharers.setdefault(frame, set()).add(file)

    def found(self, frame: Ints, pages: Ints, file: Ints) -> Ints:
        """Note that files found runs of pages; return the frames of all. Accounts by file are not kept."""
        frames = ranges(frame, pages)
        self.shared_hits += int(np.count_nonzero(self._first[frames] != np.repeat(file, pages)))
        return frames

    def tag(self, place: Place, refusal: int) -> int:
        """Return what hits of a file are noted with in the store: whose they are, and why they were refused."""
        return self.number_of(place) << _REFUSAL_BITS | refusal

    def _noted(self, frames: Ints, tags: Ints) -> None:
        """Note that files found one page each, each in a read of its own; accounts by file are not kept."""
        self.reads += len(frames)
        self.shared_hits += int(np.count_nonzero(self._first[frames] != tags >> _REFUSAL_BITS))
        for refusal, pages in enumerate(np.bincount(tags & (1 << _REFUSAL_BITS) - 1).tolist()):
            self.refused[refusal] += pages

    def read_took(self, nanoseconds: int) -> None:
        """Note that a read took so long."""
        with self._store.lock:
            self.reads += 1
            self.nanoseconds += nanoseconds

    def swept(self, frame: Ints, pages: Ints, file: Ints, refusal: Codes, missed: int) -> None:
        """Note that files found runs of pages, of which so many had been brought in just now."""
        with self._store.lock:
            frames = self.found(frame, pages, file)
            for why, count in enumerate(np.bincount(refusal, weights=pages, minlength=len(self.refused)).tolist()):
                self.refused[why] += int(count)
            self.lookups += len(frame)
            self.reads += len(frame)
            self._store.misses += missed
            self._store.touch_many(frames, missed)

    def _left(self, frame: int) -> None:
        self._sharers_of_evicted += len(self._sharers.pop(frame, ()))

    def statistics(self) -> Statistics:
        """Return everything as it is now."""
        store = self._store
        with store.lock:
            store.settle()
            here = store.frames_in_use()
            origin = self._origin[here]
            origin = origin[origin != 0]
            return Statistics(
                reads=self.reads,
                hits=store.hits,
                misses=store.misses,
                shared_hits=self.shared_hits,
                ahead=self.ahead,
                refused={name: pages for name, pages in zip(REFUSALS, self.refused, strict=True) if name and pages},
                resident=store.resident * PAGE,
                budget=store.pages * PAGE,
                duplicates=(len(origin) - len(np.unique(origin))) * PAGE,
                evicted=store.evicted,
                sharers_of_evicted=self._sharers_of_evicted,
                lookups=self.lookups,
                nanoseconds=self.nanoseconds,
                bookkeeping=store.bookkeeping() + self._bookkeeping(),
                wrong=self.wrong,
                uses=self._uses(here) if self.by_file else {},
            )

    def _bookkeeping(self) -> int:
        sets = sys.getsizeof(self._sharers) + sum(map(sys.getsizeof, self._sharers.values()))
        return self._first.nbytes + self._origin.nbytes + sets

    def _uses(self, here: list[int]) -> dict[Place, Use]:
        first: Counter[int] = Counter(self._first[here].tolist())
        part: dict[int, float] = {}
        for frame in here:
            sharers = self._sharers.get(frame, ())
            for file in sharers:
                part[file] = part.get(file, 0) + PAGE / len(sharers)
        return {self._files[file]: Use(first[file] * PAGE, bytes_) for file, bytes_ in part.items()}
