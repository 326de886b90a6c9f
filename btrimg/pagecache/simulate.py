"""What a cache of a given size makes of a sequence of page accesses, under any policy; no bytes are read.

Pages are numbers from 0 on. LRU's hits follow from reuse distances, those of the others from driving the very policy
that the cache uses.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from btrimg.pagecache.eviction import POLICIES
from btrimg.pagecache.offline import Outcome, belady, lru, reuse_distances

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from btrimg.pagecache.eviction import Policy
    from btrimg.pagecache.pages import Ints

    Bools = NDArray[np.bool_]

BELADY = "belady"  #: the best that any policy could do
NAMES = (*POLICIES, BELADY)
_CHUNK = 2048  # accesses
_SCATTERED = 16  # in a chunk with a miss in fewer accesses than this, each is looked at alone


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
            return belady(self.pages, capacity, self.numbers)
        return drive(POLICIES[policy](capacity, self.numbers), capacity, self.pages, self.numbers, progress)

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


def drive(
    policy: Policy, capacity: int, pages: Ints, numbers: int, progress: Callable[[int], None] | None = None
) -> Outcome:
    """Drive *policy* page by page and return what came of it.

    Between two misses nothing comes or goes, so that the hits there are told to the policy in one call. Where most
    hit, they are found by numpy.
    """
    here = bytearray(numbers)
    flags = np.frombuffer(here, np.bool_)
    hits = np.zeros(len(pages), np.bool_)
    room = capacity
    for start in range(0, len(pages), _CHUNK):
        chunk = pages[start : start + _CHUNK]
        if np.count_nonzero(flags[chunk]) * _SCATTERED < len(chunk) * (_SCATTERED - 1):
            room = _one_by_one(policy, here, room, chunk, hits[start : start + len(chunk)])
        else:
            room = _by_runs(policy, flags, room, chunk, hits[start : start + len(chunk)])
        if progress:
            progress(len(chunk))
    return Outcome(hits, flags)


def _one_by_one(policy: Policy, here: bytearray, room: int, pages: Ints, hits: Bools) -> int:
    """Take in *pages*, mark their *hits*, and return how much room there is."""
    touched: list[int] = []
    found = bytearray()
    for page in pages.tolist():
        if here[page]:
            touched.append(page)
            found.append(1)
            continue
        if touched:
            policy.touch(touched)
            touched = []
        found.append(0)
        if room:
            room -= 1
        else:
            here[policy.evict()] = 0
        policy.admit((page,))
        here[page] = 1
    if touched:
        policy.touch(touched)
    hits[:] = np.frombuffer(found, np.bool_)
    return room


def _by_runs(policy: Policy, here: Bools, room: int, pages: Ints, hits: Bools) -> int:
    """Do the same where misses are rare."""
    at = 0
    while at < len(pages):
        found = here[pages[at:]]
        run = len(found) if found.all() else int(found.argmin())
        if run:
            policy.touch(pages[at : at + run])
            hits[at : at + run] = True
            at += run
            continue
        page = int(pages[at])
        if room:
            room -= 1
        else:
            here[policy.evict()] = False
        policy.admit((page,))
        here[page] = True
        at += 1
    return room
