"""Pages in memory, found by their keys: frames, an index of runs, and a policy that says which page goes.

What is here is right: whoever admits a page has verified it, and whoever changes what a key stands for discards it.
"""

from __future__ import annotations

import mmap
from array import array
from threading import RLock
from typing import TYPE_CHECKING, NamedTuple

from btrimg.pagecache.dirty import HOLE, PageMap, PageRun
from btrimg.pagecache.eviction import POLICIES
from btrimg.pagecache.pages import PAGE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


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
        self._arena = mmap.mmap(-1, max(pages, 1) * PAGE)
        self.memory = memoryview(self._arena)
        self.resident = 0  #: frames in use, whoever has them
        self.hits = self.misses = 0  #: pages that were read and found here, or not
        self._free = PageMap()
        if pages:
            self._free.put(PageRun(0, pages, HOLE))
        self._policy = POLICIES[policy](max(pages, 1))
        self._index: dict[tuple[int, int], PageMap] = {}
        self._holder: list[tuple[int, int] | None] = [None] * pages  # of each frame, space and unit of its key
        self._number = array("q", bytes(8 * pages))  # and the number

    def close(self) -> None:
        """Give the memory back; nothing may be asked afterwards."""
        self.memory.release()
        self._arena.close()

    # Frames

    def take_frames(self, pages: int) -> list[range]:
        """Return runs of frames for *pages* pages, or for as many as there can be; other pages go for them."""
        with self.lock:
            pages = min(pages, self.pages)
            while self.pages - self.resident < pages:
                try:
                    frame = self._policy.evict()
                except IndexError:
                    break
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

    def admit(self, key: PageKey, frames: range) -> int:
        """Let the pages in *frames*, which were taken, be found from *key* on; return how many were not here yet."""
        with self.lock:
            number, end = key.number, key.number + len(frames)
            pages = self._index.setdefault(key[:2], PageMap())
            admitted = 0
            for start, stop in pages.without_frame(number, end):
                mine = range(frames.start + start - number, frames.start + stop - number)
                pages.put(PageRun(start, stop - start, mine.start))
                for at, frame in enumerate(mine, start):
                    self._holder[frame], self._number[frame] = key[:2], at
                keys = [(*key[:2], at) for at in range(start, stop)] if self._policy.remembers else None
                self._policy.admit(mine, keys)
                admitted += len(mine)
            for frame in frames if admitted < len(frames) else ():
                if self._holder[frame] is None:
                    self.give_frames(range(frame, frame + 1))
            return admitted

    def discard(self, key: PageKey, pages: int) -> int:
        """Forget *pages* pages from *key* on; return how many were here."""
        with self.lock:
            found = self._index.get(key[:2])
            gone = found.take(key.number, key.number + pages) if found else []
            if found is not None and not found:
                del self._index[key[:2]]
            return self._forget(gone)

    def discard_where(self, gone: Callable[[int, int], bool]) -> int:
        """Forget all pages of whose key *gone* says so, given space and unit; return how many there were."""
        with self.lock:
            return sum(self._forget(self._index.pop(each)) for each in [each for each in self._index if gone(*each)])

    def _forget(self, runs: list[PageRun] | PageMap) -> int:
        count = 0
        for run in runs:
            frames = range(run.frame, run.frame + run.pages)
            self._policy.forget(frames)
            self._holder[run.frame : run.frame + run.pages] = [None] * run.pages
            self.give_frames(frames)
            count += run.pages
        return count

    def keys(self) -> Iterator[tuple[PageKey, int, int]]:
        """Yield all pages by runs: key, how many, first frame."""
        for (space, unit), pages in self._index.items():
            for run in pages:
                yield PageKey(space, unit, run.page), run.pages, run.frame
