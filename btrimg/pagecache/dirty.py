"""Changes of a file that are not yet committed: dirty pages private to the inode, holes punched, another size.

They lie over the committed bytes of the file and win. Everything is done by runs of pages, whatever a write's offset
and length; bytes live in frames that somebody else has and counts.
"""

from __future__ import annotations

import sys
from bisect import bisect_left, bisect_right
from typing import TYPE_CHECKING, Protocol

from btrimg.errors import BtrimgError
from btrimg.named import NamedTuple
from btrimg.pagecache.pages import PAGE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Fill = Callable[[memoryview, int], None]  # fills a buffer with committed bytes from a file offset on

UNBOUNDED = 1 << 51  #: a page that no file has: its offset would be 2**63
HOLE = -1  #: in the place of a frame: the pages are zeros, and have no frame
COMMITTED = -2  #: in the place of an address: the bytes are those of the last commit


class Frames(Protocol):
    """Where frames come from."""

    def take(self, pages: int) -> list[range]:
        """Return runs of frames for *pages* pages, or for fewer, if there are not so many."""

    def give(self, frames: range) -> None:
        """Take frames back."""


class PageRun(NamedTuple):
    """Pages side by side, in frames side by side or in a hole."""

    page: int
    pages: int
    frame: int  #: of the first page, or HOLE

    @property
    def end(self) -> int:
        """Return the page after the run."""
        return self.page + self.pages

    def part(self, start: int, end: int) -> PageRun:
        """Return the part of the run in pages [start, end), which it reaches into."""
        first, last = max(start, self.page), min(end, self.end)
        frame = HOLE if self.frame == HOLE else self.frame + first - self.page
        return PageRun(first, last - first, frame)

    def followed_by(self, other: PageRun) -> bool:
        """Return whether both are one run."""
        if self.end != other.page:
            return False
        hole = self.frame == HOLE
        return hole == (other.frame == HOLE) and (hole or self.frame + self.pages == other.frame)


class PageMap:
    """Which frame holds which page of a file: runs in order, as few as there can be, found by bisection."""

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._runs: list[PageRun] = []
        self.frames = 0  #: how many pages have one

    def __bool__(self) -> bool:
        return bool(self._runs)

    def __iter__(self) -> Iterator[PageRun]:
        return iter(self._runs)

    def _span(self, start: int, end: int) -> slice:
        """Return where the runs stand that reach into pages [start, end)."""
        first = bisect_right(self._starts, start) - 1
        if first < 0 or self._runs[first].end <= start:
            first += 1
        return slice(first, max(bisect_left(self._starts, end), first))

    def among(self, start: int, end: int) -> list[PageRun]:
        """Return the runs in pages [start, end), cut to them."""
        found = self._runs[self._span(start, end)]
        if found:
            found[0] = found[0].part(start, end)
            found[-1] = found[-1].part(start, end)
        return found

    def run_with(self, page: int) -> PageRun:
        """Return the run that has a page, which is here."""
        return self._runs[bisect_right(self._starts, page) - 1]

    def bookkeeping(self) -> int:
        """Return about how many bytes this takes."""
        lists = sys.getsizeof(self._starts) + sys.getsizeof(self._runs)
        return lists + len(self._runs) * (sys.getsizeof(PageRun(0, 0, 0)) + 3 * sys.getsizeof(1 << 30))

    def without_frame(self, start: int, end: int) -> list[tuple[int, int]]:
        """Return the parts of pages [start, end) that are in no frame, as (start, end)."""
        gaps: list[tuple[int, int]] = []
        for run in self.among(start, end):
            if run.frame != HOLE:
                if run.page > start:
                    gaps.append((start, run.page))
                start = run.end
        if start < end:
            gaps.append((start, end))
        return gaps

    def put(self, run: PageRun) -> None:
        """Let *run* be where its pages are; those that have a frame already must have been taken out."""
        self.take(run.page, run.end)
        at = bisect_left(self._starts, run.page)
        if run.frame != HOLE:
            self.frames += run.pages
        first, last = at, at
        if at and self._runs[at - 1].followed_by(run):
            first, before = at - 1, self._runs[at - 1]
            run = PageRun(before.page, before.pages + run.pages, before.frame)
        if at < len(self._runs) and run.followed_by(self._runs[at]):
            last = at + 1
            run = run._replace(pages=run.pages + self._runs[at].pages)
        self._runs[first:last] = [run]
        self._starts[first:last] = [run.page]

    def take(self, start: int, end: int) -> list[PageRun]:
        """Take pages [start, end) out; return where they were. Frames are the caller's from now on."""
        span = self._span(start, end)
        touched = self._runs[span]
        if not touched:
            return []
        taken = self.among(start, end)
        left = [touched[0].part(touched[0].page, start)] if touched[0].page < start else []
        left += [touched[-1].part(end, touched[-1].end)] if touched[-1].end > end else []
        self._runs[span] = left
        self._starts[span] = [run.page for run in left]
        self.frames -= sum(run.pages for run in taken if run.frame != HOLE)
        return taken


class Segment(NamedTuple):
    """Bytes [start, end) of a file and where they are: an address in the frames, HOLE for zeros, or COMMITTED."""

    start: int
    end: int
    where: int


class Changes:
    """What has been changed in a file since its last commit, over *memory*, the bytes of all frames.

    Committed bytes count below :attr:`cut` only: beyond it the file was cut off meanwhile, or never was. In a frame,
    what lies beyond the end of the file is zeros.
    """

    def __init__(self, memory: memoryview, size: int) -> None:
        self.memory = memory
        self.map = PageMap()
        self.committed = size  #: bytes of the file as the last commit has it
        self.size = size  #: bytes, now
        self.cut = size

    def __bool__(self) -> bool:
        return bool(self.map) or self.size != self.committed or self.cut != self.committed

    @property
    def dirty(self) -> int:
        """Return how many pages are dirty: each has a frame."""
        return self.map.frames

    def segments(self, start: int, end: int) -> Iterator[Segment]:
        """Yield where bytes [start, end) are, in order; what is beyond the end of the file counts as zeros."""
        for run in self.map.among(start // PAGE, -(-end // PAGE)):
            first, last = max(run.page * PAGE, start), min(run.end * PAGE, end)
            yield from self._below(start, first)
            at = HOLE if run.frame == HOLE else run.frame * PAGE + first - run.page * PAGE
            yield Segment(first, last, at)
            start = last
        yield from self._below(start, end)

    def _below(self, start: int, end: int) -> Iterator[Segment]:
        """Yield where bytes [start, end) are that nothing lies over."""
        cut = min(max(self.cut, start), end)
        if start < cut:
            yield Segment(start, cut, COMMITTED)
        if cut < end:
            yield Segment(cut, end, HOLE)

    def write(self, offset: int, data: memoryview, frames: Frames, committed: Fill) -> int:
        """Write *data* at *offset*, as far as there are frames, and return how many bytes that was.

        Pages that change in part are filled first, by *committed* where the last commit counts. What that raises ends
        the write before those pages, and is raised if nothing is written then.
        """
        end = offset + len(data)
        failure = None
        for start, stop in self.map.without_frame(offset // PAGE, -(-end // PAGE)):
            at, failure = self._take(start, stop, offset, end, frames, committed)
            if at < stop:
                end = max(at * PAGE, offset)
                break
        if failure and end == offset:
            raise failure
        self._store(offset, data[: end - offset])
        return end - offset

    def _take(
        self, start: int, stop: int, offset: int, end: int, frames: Frames, committed: Fill
    ) -> tuple[int, BtrimgError | None]:
        """Give pages [start, stop) frames, for bytes [offset, end); return the first without one, and the error."""
        failure = None
        for taken in frames.take(stop - start):
            run = PageRun(start, len(taken), taken.start)
            if failure is None:
                try:
                    self._fill(run, offset, end, committed)
                    self.map.put(run)
                    start = run.end
                    continue
                except BtrimgError as error:
                    failure = error
            frames.give(taken)
        return start, failure

    def _fill(self, run: PageRun, offset: int, end: int, committed: Fill) -> None:
        """Bring into new frames what bytes [offset, end), which are about to be written, leave of their pages."""
        first, last = run.page * PAGE, run.end * PAGE
        for start, stop in ((first, min(offset, last)), (max(end, first), last)):
            for segment in self.segments(start, stop) if start < stop else ():
                at = run.frame * PAGE + segment.start - first
                room = self.memory[at : at + segment.end - segment.start]
                if segment.where == COMMITTED:
                    committed(room, segment.start)
                else:  # nothing lies over these pages but holes
                    room[:] = bytes(len(room))

    def _store(self, offset: int, data: memoryview) -> None:
        """Overwrite bytes at *offset*, all in pages that have frames; the file grows to their end."""
        end = offset + len(data)
        for run in self.map.among(offset // PAGE, -(-end // PAGE)):
            first, last = max(run.page * PAGE, offset), min(run.end * PAGE, end)
            at = run.frame * PAGE + first - run.page * PAGE
            self.memory[at : at + last - first] = data[first - offset : last - offset]
        self.size = max(self.size, end) if data else self.size

    def truncate(self, size: int) -> list[PageRun]:
        """Let the file be *size* bytes long; return the runs whose frames are free now."""
        freed: list[PageRun] = []
        if size < self.size:
            last = -(-size // PAGE)
            freed = self._out(last, max(-(-self.size // PAGE), last))
            if size % PAGE:
                for run in self.map.among(last - 1, last):
                    if run.frame != HOLE:
                        at = run.frame * PAGE + size % PAGE
                        self.memory[at : (run.frame + 1) * PAGE] = bytes(-size % PAGE)
            self.cut = min(self.cut, size)
        self.size = size
        return freed

    def punch(self, start: int, end: int) -> list[PageRun]:
        """Make pages [start, end) a hole; return the runs whose frames are free now."""
        freed = self._out(start, end)
        if start < end:
            self.map.put(PageRun(start, end - start, HOLE))
        return freed

    def _out(self, start: int, end: int) -> list[PageRun]:
        return [run for run in self.map.take(start, end) if run.frame != HOLE] if start < end else []

    def changed(self) -> list[tuple[int, int]]:
        """Return the pages of which a commit of this changes bytes, as [start, end); the last may have no bound."""
        spans = [(run.page, run.end) for run in self.map]
        if self.size != self.committed or self.cut != self.committed:
            first = self.cut // PAGE
            spans = [(start, min(end, first)) for start, end in spans if start < first]
            spans.append((first, UNBOUNDED))
        return spans

    def settle(self) -> list[PageRun]:
        """Take it that all this is committed now; return the runs of pages that were dirty, whose frames are free."""
        runs = [run for run in self.map if run.frame != HOLE]
        self.map = PageMap()
        self.committed = self.cut = self.size
        return runs
