"""What a cache of a given size makes of a sequence of page accesses, under any policy; no bytes are read.

Pages are numbers from 0 on. LRU's hits follow from reuse distances, those of the others from one loop each.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from btrimg.pagecache.eviction import POLICIES
from btrimg.pagecache.loops import LOOPS
from btrimg.pagecache.offline import belady, lru, reuse_distances

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from btrimg.pagecache.offline import Outcome
    from btrimg.pagecache.pages import Ints

    Bools = NDArray[np.bool_]

BELADY = "belady"  #: the best that any policy could do
NAMES = (*POLICIES, BELADY)


class Stream:
    """Page accesses in order: their pages, numbered below *numbers*, and what follows from them."""

    def __init__(self, pages: Ints, numbers: int) -> None:
        self.pages, self.numbers = pages, numbers

    @cached_property
    def order(self) -> Ints:
        """Return the numbers of all accesses by page, in order of time for each."""
        return np.argsort(self.pages, kind="stable")

    @cached_property
    def first(self) -> Bools:
        """Return which accesses are the first ones to their page."""
        ordered = self.pages[self.order]
        first = np.zeros(len(ordered), np.bool_)
        first[self.order] = np.append(True, ordered[1:] != ordered[:-1])[: len(ordered)]
        return first

    @cached_property
    def distances(self) -> Ints:
        """Return the reuse distances."""
        return reuse_distances(self.pages, self.order)

    def run(self, policy: str, capacity: int, progress: Callable[[int], None] | None = None) -> Outcome:
        """Return what a cache of *capacity* pages, at least 1 and empty at first, makes of it under one of NAMES."""
        if policy == "lru":
            return lru(self.pages, self.distances, capacity, self.numbers)
        if policy == BELADY:
            return belady(self.pages, capacity, self.numbers, self.order)
        return LOOPS[policy](self.pages, capacity, self.numbers, progress)

    def sharers_of_evicted(self, outcome: Outcome, file: Ints) -> int:
        """Return the sum, over all evictions, of how many files used the page since it came; *file* is each access's.

        That is how many mappings an eviction would walk if every file had an entry of its own for the page.
        """
        misses = ~outcome.hits[self.order]
        stay = np.cumsum(misses) - 1  # every time that a page is in memory has a number, in order of pages
        page = self.pages[self.order][misses]
        over = np.append(page[1:] == page[:-1], False)[: len(page)] | ~outcome.held[page]
        files = int(file.max(initial=0)) + 1
        users = np.sort(stay * files + file[self.order])
        once = np.append(True, users[1:] != users[:-1])[: len(users)]
        return int(np.count_nonzero(over[users[once] // files]))
