"""Pages in memory, found by their keys: frames, an index of runs, and a policy that says which page goes.

What is here is right: whoever admits a page has verified it, and whoever changes what a key stands for discards it.
"""

from __future__ import annotations

import sys
from array import array
from threading import RLock
from typing import TYPE_CHECKING

import numpy as np

from btrimg.named import NamedTuple
from btrimg.pagecache.arena import Arena
from btrimg.pagecache.dirty import HOLE, PageMap, PageRun
from btrimg.pagecache.eviction import POLICIES
from btrimg.trees.batches import ranges

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from btrimg.pagecache.pages import Ints


class PageKey(NamedTuple):
    """The key of a page; those that follow it count up in *number*."""

    space: int
    unit: int
    number: int

    def plus(self, pages: int) -> PageKey:
        """Return the key of the page so many pages on."""
        return PageKey(self.space, self.unit, self.number + pages)


class PageStore:
    """At most *pages* pages, of which *policy*, a name of POLICIES, gives up one when there is no room.

    Frames that were taken and not admitted belong to who took them: they are not given up. Safe for many threads;
    who copies from a frame that :meth:`find` named holds :attr:`lock` meanwhile. Trees and checksums of an image are no
    thing for several threads: who reads them holds :attr:`filling`, and asks for it before the other.
    """

    def __init__(self, pages: int, policy: str) -> None:
        self.lock, self.filling = RLock(), RLock()
        self.pages = pages
        self.arena = Arena(pages)
        self.memory = self.arena.memory
        self.closed = False
        self.resident = 0  #: frames in use, whoever has them
        self.hits = self.misses = 0  #: pages that were read and found here, or not
        self.evicted = 0  #: pages given up for others
        self.leaving: Callable[[int], None] | None = None  #: is told of each frame whose page is given up for another
        self._free = PageMap()
        if pages:
            self._free.put(PageRun(0, pages, HOLE))
        self._policy = POLICIES[policy](max(pages, 1))
        self._index: dict[tuple[int, int], PageMap] = {}
        self._holder: list[tuple[int, int] | None] = [None] * pages  # of each frame, space and unit of its key
        self._number = array("q", bytes(8 * pages))  # and the number
        #: Of each frame a number that no frame has twice: for as long as it stays, the frame has the same page, and
        #: without lock, who finds it so before and after copying has copied that. -1: has none. The number of the
        #: frame is in it, by *frame_mask*.
        self.stamps = array("q", [-1]) * pages
        self._frame_bits = pages.bit_length()
        self.frame_mask = (1 << self._frame_bits) - 1
        self._stamped = 0
        #: Hits of single pages that nobody has been told of: stamp, tag, stamp, tag, … Appended to without lock.
        self.noted: list[int] = []
        self.counting: Callable[[Ints, Ints], None] | None = None  #: is told frames and tags of what was noted
        self._pins = np.zeros(pages, np.int32)  # of each frame, how many want it left as it is
        self._parting: set[int] = set()  # pinned frames whose pages are gone
        self._alike: dict[PageKey, set[PageKey]] = {}  # by key: other keys, of pages that are known to be the same

    def close(self) -> None:
        """Give the memory back; nothing may be asked afterwards."""
        with self.lock:
            self.closed = True
            self.arena.close()

    def check_open(self) -> None:
        """Raise ValueError, as a closed file does, once the memory has been given back."""
        if self.closed:
            raise ValueError("the page cache is closed: nothing can be read through it any more")

    # Frames

    def take_frames(self, pages: int) -> list[range]:
        """Return runs of frames for *pages* pages, or for as many as there can be; other pages go for them."""
        with self.lock:
            pages = min(pages, self.pages)
            self.settle()
            while self.pages - self.resident < pages:
                try:
                    frame = self._policy.evict()
                except IndexError:
                    break
                self.evicted += 1
                if self.leaving is not None:
                    self.leaving(frame)
                self._unlist(frame)
            taken: list[range] = []
            while pages > 0 and self._free:
                run = next(iter(self._free))
                count = min(run.pages, pages)
                self._free.take(run.page, run.page + count)
                taken.append(range(run.page, run.page + count))
                pages -= count
            self.resident += sum(map(len, taken))
            return taken

    def give_frames(self, frames: range) -> None:
        """Take back frames that were taken, and not admitted."""
        with self.lock:
            self._free.put(PageRun(frames.start, len(frames), HOLE))
            self.resident -= len(frames)

    def _unlist(self, frame: int) -> None:
        """Free the frame of a page that the policy has forgotten."""
        holder, number = self._holder[frame], self._number[frame]
        if holder is not None:
            pages = self._index[holder]
            pages.take(number, number + 1)
            if not pages:
                del self._index[holder]
            self._holder[frame] = None
            self.stamps[frame] = -1
            self._alike.pop(PageKey(*holder, number), None)
        self._free_frames(range(frame, frame + 1))

    def _free_frames(self, frames: range) -> None:
        """Free the frames of pages that are gone, now or when nobody looks at them any more."""
        if not self._pins[frames.start : frames.stop].any():
            self.give_frames(frames)
            return
        for frame in frames:
            if self._pins[frame]:
                self._parting.add(frame)
            else:
                self.give_frames(range(frame, frame + 1))

    def pin(self, frames: Ints) -> None:
        """Let no other bytes come into *frames*, each named once, until they are unpinned; their pages may go."""
        with self.lock:
            self._pins[frames] += 1

    def unpin(self, frames: Ints) -> None:
        """Undo one :meth:`pin`."""
        with self.lock:
            self._pins[frames] -= 1
            for frame in [frame for frame in self._parting if not self._pins[frame]]:
                self._parting.remove(frame)
                self.give_frames(range(frame, frame + 1))

    # Pages

    def find(self, key: PageKey, pages: int) -> list[PageRun]:
        """Return which of *pages* pages from *key* on are here; their page counts from 0 at *key*."""
        found = self._index.get(key[:2])
        if found is None:
            return []
        return [run._replace(page=run.page - key.number) for run in found.among(key.number, key.number + pages)]

    def touch(self, run: PageRun) -> None:
        """Count pages as hit, and tell the policy."""
        self.hits += run.pages
        self._policy.touch(range(run.frame, run.frame + run.pages))

    def touch_many(self, frames: Ints, missed: int) -> None:
        """Count pages as hit, but for so many that were missed before, and tell the policy."""
        self.hits += max(len(frames) - missed, 0)
        self._policy.touch(frames)

    def runs_of(self, holder: tuple[int, int], start: int, end: int) -> list[PageRun]:
        """Return which of the pages number [start, end) of a *holder*, a space and unit, are here."""
        found = self._index.get(holder)
        return found.among(start, end) if found else []

    def run_with(self, holder: tuple[int, int], number: int) -> PageRun:
        """Return the run of pages side by side with the page *number* of a *holder*, which is here."""
        return self._index[holder].run_with(number)

    def settle(self) -> None:
        """Count the hits that were noted, and tell the policy of those whose page is still here."""
        if not self.noted:
            return
        with self.lock:
            noted = self.noted[:]
            del self.noted[: len(noted)]  # others may have appended more meanwhile
            pairs = np.array(noted, np.int64).reshape(-1, 2)
            frames = pairs[:, 0] & self.frame_mask
            self.hits += len(frames)
            if self.counting is not None:
                self.counting(frames, pairs[:, 1])
            stay = np.frombuffer(self.stamps, np.int64)[frames] == pairs[:, 0]
            self._policy.touch(frames[stay])

    def admit(self, key: PageKey, frames: range) -> int:
        """Let the pages in *frames*, which were taken, be found from *key* on; return how many were not here yet."""
        return self.admit_runs([(key[:2], key.number, frames.start, len(frames))])

    def admit_runs(self, runs: Iterable[tuple[tuple[int, int], int, int, int]]) -> int:
        """Admit runs of pages: holder, number of the first, the frame it is in, how many; return how many were new."""
        with self.lock:
            new: list[tuple[int, int, int]] = []
            keys: list[tuple[int, int, int]] = []
            for holder, number, frame, count in runs:
                pages = self._index.get(holder)
                if pages is None:
                    pages = self._index[holder] = PageMap()
                after = number
                for start, stop in pages.without_frame(number, number + count):
                    self._give_taken(frame + after - number, start - after)
                    after = stop
                    run = PageRun(start, stop - start, frame + start - number)
                    pages.put(run)
                    new.append(run)
                    self._holder[run.frame : run.frame + run.pages] = [holder] * run.pages
                    if self._policy.remembers:
                        keys += ((*holder, at) for at in range(start, stop))
                self._give_taken(frame + after - number, number + count - after)
            if not new:
                return 0
            number, count, frame = np.array(new, np.int64).T
            frames = ranges(frame, count)
            np.frombuffer(self._number, np.int64)[frames] = ranges(number, count)
            self._stamped += 1
            np.frombuffer(self.stamps, np.int64)[frames] = (self._stamped << self._frame_bits) + frames
            self._policy.admit(frames, keys if self._policy.remembers else None)
            return len(frames)

    def _give_taken(self, frame: int, count: int) -> None:
        if count > 0:
            self.give_frames(range(frame, frame + count))

    def frames_in_use(self) -> list[int]:
        """Return the frames of all pages that can be found."""
        return [frame for frame, holder in enumerate(self._holder) if holder is not None]

    def bookkeeping(self) -> int:
        """Return the bytes that the index and the list of frames take."""
        maps = sum(pages.bookkeeping() for pages in self._index.values()) + self._free.bookkeeping()
        return sys.getsizeof(self._holder) + sys.getsizeof(self._number) + sys.getsizeof(self._index) + maps

    def discard(self, key: PageKey, pages: int) -> int:
        """Forget *pages* pages from *key* on; return how many were here."""
        with self.lock:
            found = self._index.get(key[:2])
            gone = found.take(key.number, key.number + pages) if found else []
            if found is not None and not found:
                del self._index[key[:2]]
            return self._forget(gone, key.space, key.unit)

    def discard_where(self, gone: Callable[[int, int], bool]) -> int:
        """Forget all pages of whose key *gone* says so, given space and unit; return how many there were."""
        with self.lock:
            every = [each for each in self._index if gone(*each)]
            return sum(self._forget(self._index.pop(each), *each) for each in every)

    def is_alike(self, key: PageKey, other: PageKey) -> bool:
        """Return whether the page by *key* is here and known to be what *other* stands for."""
        return other in self._alike.get(key, ())

    def know_alike(self, key: PageKey, other: PageKey) -> None:
        """Note that the page by *key*, which is here, has been compared with what *other* stands for."""
        self._alike.setdefault(key, set()).add(other)

    def _forget(self, runs: list[PageRun] | PageMap, space: int, unit: int) -> int:
        count = 0
        for run in runs:
            frames = range(run.frame, run.frame + run.pages)
            self._holder[run.frame : run.frame + run.pages] = [None] * run.pages
            self.stamps[run.frame : run.frame + run.pages] = array("q", [-1]) * run.pages
            self._policy.forget(frames)
            self._free_frames(frames)
            count += run.pages
            for number in range(run.page, run.end) if self._alike else ():
                self._alike.pop(PageKey(space, unit, number), None)
        return count
