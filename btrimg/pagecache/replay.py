"""What every scheme and policy makes of the same reads: memory over time, hits, misses by size of cache, and costs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from btrimg.named import NamedTuple
from btrimg.pagecache.offline import hits_by_size
from btrimg.pagecache.pages import REFUSALS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from btrimg.pagecache.offline import Outcome
    from btrimg.pagecache.pages import Ints
    from btrimg.pagecache.simulate import Stream
    from btrimg.pagecache.streams import Numbered, Streams

    Bools = NDArray[np.bool_]

POINTS = 100  #: of everything that is told over time
_SIZES_OF_CURVE = 40
SLOT = 8  #: bytes that a page takes in an index: one entry of an xarray


class Moment(NamedTuple):
    """Where things stand after some of the page accesses, without a limit to memory."""

    accesses: int  #: page accesses so far
    time: int  #: nanoseconds since the first one
    resident: int  #: pages in memory
    duplicates: int  #: of these, pages that are there more than once: the same page of one extent


class Counted(NamedTuple):
    """Page accesses, and how many of them hit."""

    accesses: int
    hits: int

    @property
    def ratio(self) -> float:
        """Return the hit ratio, 0 where nothing was accessed."""
        return self.hits / self.accesses if self.accesses else 0.0


class Cached(NamedTuple):
    """What a cache of one size made of it, under one policy."""

    policy: str
    budget: int  #: pages
    reads: Counted
    faults: Counted  #: page accesses through mappings
    evictions: int
    sharers_of_evicted: (
        int  #: sum over evictions: files that used the page since it came; to be walked if each had an entry
    )
    hits_over_time: tuple[int, ...]  #: after each of the moments

    @property
    def misses(self) -> int:
        """Return how many pages were brought in."""
        return self.reads.accesses + self.faults.accesses - self.reads.hits - self.faults.hits


class Costs(NamedTuple):
    """What finding pages takes; what the kernel of today does, an access at a time, is the scheme ``inode``."""

    accesses: int
    lookups: int  #: in an index of pages: of the inode's own (dirty ones come first), and of shared ones piece by piece
    translations: int  #: from a place in a file to one in an extent or on a device
    index_bytes: int  #: for all pages that were accessed, if those of equal keys have one entry
    pointer_bytes: int  #: if every file has an entry of its own for each of its pages, all leading to one page


class Replayed(NamedTuple):
    """What one scheme makes of the reads."""

    scheme: str
    resident: int  #: different pages: what memory would hold at the end, were there no limit
    duplicates: int
    refused: dict[str, int]  #: page accesses by reason
    moments: tuple[Moment, ...]
    curve: tuple[tuple[int, float], ...]  #: pages of cache, LRU's miss ratio with these
    cached: tuple[Cached, ...]
    costs: Costs


class Replay:
    """Reads that are to be replayed, under any scheme."""

    def __init__(self, streams: Streams) -> None:
        self.streams = streams
        marks = np.linspace(0, streams.pages, POINTS + 1).astype(np.int64)
        self._marks = np.unique(marks[marks > 0])  # numbers of page accesses after which to look
        self._mapped = streams.per_access(streams.reads.mapped).astype(np.bool_)
        time = streams.reads.time
        read = np.searchsorted(streams.offset, self._marks - 1, "right") - 1
        self._times = (time[read] - time[0]) if len(time) else self._marks
        self._copies = self._so_far(streams.extents.stream) if streams.pages else self._marks
        self.of_files = self._pages_of_files()  #: different pages of files that are accessed: what today's kernel holds

    def _so_far(self, stream: Stream) -> Ints:
        """Return how many different pages there were at every mark."""
        return np.cumsum(stream.first, dtype=np.int64)[self._marks - 1]

    def _pages_of_files(self) -> int:
        """Return how many different pages of files are accessed."""
        return int(np.count_nonzero(self.streams.numbered("inode").stream.first))

    def run(
        self,
        scheme: str,
        policies: Sequence[str],
        budgets: Sequence[int],
        progress: Callable[[int], None] | None = None,
    ) -> Replayed:
        """Return what *scheme* makes of it; with caches of all *budgets*, in pages, under all *policies*."""
        found = self.streams.numbered(scheme)
        stream = found.stream
        resident = int(np.count_nonzero(stream.first))
        so_far = self._so_far(stream) if len(stream.pages) else self._marks
        return Replayed(
            scheme=scheme,
            resident=resident,
            duplicates=max(resident - int(self._copies[-1]), 0) if len(self._copies) else 0,
            refused=_refused(found),
            moments=self._moments(so_far),
            curve=miss_ratios(stream, resident),
            cached=tuple(
                self._cached(stream, policy, budget, progress) for policy in policies for budget in sorted(budgets)
            ),
            costs=self._costs(scheme, found, resident),
        )

    def _moments(self, resident: Ints) -> tuple[Moment, ...]:
        duplicates = np.maximum(resident - self._copies, 0)
        columns = (self._marks, self._times, resident, duplicates)
        return tuple(Moment._make(row) for row in zip(*(column.tolist() for column in columns), strict=True))

    def _cached(self, stream: Stream, policy: str, budget: int, progress: Callable[[int], None] | None) -> Cached:
        outcome = stream.run(policy, budget, progress)
        hits = np.cumsum(outcome.hits)
        evictions = len(outcome.hits) - int(np.count_nonzero(outcome.hits)) - int(np.count_nonzero(outcome.held))
        return Cached(
            policy=policy,
            budget=budget,
            reads=_counted(outcome, ~self._mapped),
            faults=_counted(outcome, self._mapped),
            evictions=evictions,
            sharers_of_evicted=stream.sharers_of_evicted(outcome, self.streams.file) if evictions else 0,
            hits_over_time=tuple(hits[self._marks - 1].tolist()) if len(hits) else (),
        )

    def _costs(self, scheme: str, found: Numbered, resident: int) -> Costs:
        accesses = self.streams.accesses
        own = scheme in ("none", "inode")  # what an access asks for is found at once, without knowing where it lies
        return Costs(
            accesses=accesses,
            lookups=accesses if own else accesses + found.pieces,
            translations=0 if own else found.pieces,
            index_bytes=resident * SLOT,
            pointer_bytes=(resident if own else self.of_files) * SLOT,
        )


def _refused(found: Numbered) -> dict[str, int]:
    return {REFUSALS[code]: int(found.refused[code]) for code in np.flatnonzero(found.refused).tolist() if code}


def _counted(outcome: Outcome, which: Bools) -> Counted:
    return Counted(int(np.count_nonzero(which)), int(np.count_nonzero(outcome.hits & which)))


def miss_ratios(stream: Stream, largest: int) -> tuple[tuple[int, float], ...]:
    """Return LRU's miss ratio for caches of some sizes, evenly spaced by their ratio, up to *largest* pages."""
    if not len(stream.pages):
        return ()
    hits = hits_by_size(stream.distances, largest)
    sizes = np.unique(np.geomspace(1, max(largest, 1), _SIZES_OF_CURVE).round().astype(np.int64))
    return tuple((size, 1 - int(hits[size]) / len(stream.pages)) for size in sizes.tolist())


def default_budgets(resident: int) -> list[int]:
    """Return sizes of caches, in pages, to try where *resident* pages would be in memory without a limit."""
    return sorted({max(resident >> shift, 1) for shift in (4, 3, 2, 1)})
