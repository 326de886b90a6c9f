"""What can only be known afterwards: LRU's hits for every size of cache at once, and the best that any policy could do.

Accesses are numbers of pages, in order. :func:`reuse_distances` answers for LRU without simulating it;
:func:`belady` is the bound for all policies that fetch what is asked for.
"""

from __future__ import annotations

from heapq import heappop, heappush, heapreplace
from typing import TYPE_CHECKING

import numpy as np

from btrimg.named import NamedTuple

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from btrimg.pagecache.pages import Ints

    Bools = NDArray[np.bool_]


class Outcome(NamedTuple):
    """What a cache made of a sequence of accesses."""

    hits: Bools  #: of each access
    held: Bools  #: of each number of a page, whether it is in memory at the end


def previous(pages: Ints, order: Ints | None = None) -> Ints:
    """Return for each access the number of the last one to the same page, -1 where there is none.

    *order* is the stable order of *pages*, for who has it.
    """
    order = np.argsort(pages, kind="stable") if order is None else order
    again = pages[order[1:]] == pages[order[:-1]]
    found = np.full(len(pages), -1, np.int64)
    found[order[1:][again]] = order[:-1][again]
    return found


def reuse_distances(pages: Ints, order: Ints | None = None) -> Ints:
    """Return how many other pages were accessed since each page was last accessed, -1 where it is the first time.

    LRU with room for c pages hits exactly where the distance is from 0 up to c - 1 (Mattson's stack distance). All that
    lies between two accesses to a page is an access to another page, unless it is itself a repetition of one that
    lies there. Those are the earlier accesses whose own previous one is later: inversions of :func:`previous`.
    """
    last = previous(pages, order)
    again = np.flatnonzero(last >= 0)
    rank = np.cumsum(np.bincount(last[again], minlength=len(pages)))
    distances = np.full(len(pages), -1, np.int64)
    distances[again] = again - last[again] - 1 - _greater_before(rank[last[again]] - 1)
    return distances


def _greater_before(permutation: Ints) -> Ints:
    """Return for each number of a permutation of 0, 1, … how many greater ones stand before it.

    Numbers are cut into blocks of 256, and so are places, or into blocks of 65,536 if there are as many. A greater
    number of the same block of numbers is counted by comparing each with each; one of another block that stands in an
    earlier block of places by a table; and one that stands in the same block of places by comparing or, in the larger
    blocks, by this very function. Eight bits at a time is five times as fast as sorting bit by bit.
    """
    count = len(permutation)
    places_bits = 16 if count > 1 << 16 else 8
    length = -(-max(count, 1) >> places_bits) << places_bits
    padded = np.arange(length)  # what is behind the end is in order, and greater: it counts for nobody
    padded[:count] = permutation
    places = np.empty_like(padded)
    places[padded] = np.arange(length)
    by_number = np.sort(places.reshape(-1, 256), axis=1)  # of each block of numbers, where they stand, in order
    greater = np.empty(length, np.int64)
    greater[by_number] = _greater_before_in_rows((padded[by_number] & 255).astype(np.uint8))
    blocks = (padded >> 8).astype(np.int32).reshape(-1, 1 << places_bits)
    if places_bits == 8:
        greater += _greater_before_in_rows(blocks).ravel()
    earlier = np.zeros(length >> 8, np.int64)  # of each block of numbers, how many of later blocks came
    for row, codes in zip(greater.reshape(blocks.shape), blocks, strict=True):
        row += earlier[codes]
        earlier += len(codes) - np.cumsum(np.bincount(codes, minlength=len(earlier)))
        if places_bits > 8:
            rank = np.empty(len(codes), np.int64)  # equal ones in order, so that none counts for another
            rank[np.argsort(codes, kind="stable")] = np.arange(len(codes))
            row += _greater_before(rank)
    return greater[:count]


def _greater_before_in_rows(rows: NDArray[np.uint8] | NDArray[np.int32]) -> NDArray[np.uint8]:
    """Return for each number how many greater ones stand before it in its row of 256."""
    columns = np.ascontiguousarray(rows.T)
    greater = np.zeros(columns.shape, np.uint8)
    for at in range(1, 256):
        (columns[:at] > columns[at]).view(np.uint8).sum(axis=0, dtype=np.uint8, out=greater[at])
    return greater.T


def hits_by_size(distances: Ints, largest: int) -> Ints:
    """Return how often LRU hits with room for 0, 1, … *largest* pages."""
    counted = np.bincount(distances[(distances >= 0) & (distances < largest)], minlength=largest)
    return np.concatenate(([0], np.cumsum(counted)))


def lru(pages: Ints, distances: Ints, capacity: int, numbers: int) -> Outcome:
    """Return what LRU makes of it, from the *distances* of *pages*, whose numbers are below *numbers*."""
    latest = np.full(numbers, -1, np.int64)
    latest[pages] = np.arange(len(pages))  # of equal indices, the last counts
    last = np.sort(latest[latest >= 0])[-capacity:]
    held = np.zeros(numbers, np.bool_)
    held[pages[last]] = True
    return Outcome((distances >= 0) & (distances < capacity), held)


def belady(pages: Ints, capacity: int, numbers: int, order: Ints | None = None) -> Outcome:
    """Return what the best possible policy makes of it: the page that is needed latest goes (Belady's MIN).

    It knows the future, but must take in what is asked for, as a cache must. *order* is that of :func:`previous`.
    """
    count = len(pages)
    last = previous(pages, order)
    following = np.zeros(count, np.int64)  # negative, so that the latest is the least; 0: never again
    again = np.flatnonzero(last >= 0)
    following[last[again]] = -again
    state = bytearray(numbers)
    hits = bytearray(b"\1") * count
    listed = pages.tolist()
    latest: list[int] = []  # when the pages here are needed; times of pages hit since lie behind: they are past
    never: list[int] = []  # pages here that are not needed again: the last one goes first
    room = capacity
    for at, page, needed in zip(range(count), listed, following.tolist(), strict=True):
        if not state[page]:
            hits[at] = 0
            state[page] = 1
            if room:
                room -= 1
            elif never:
                state[never.pop()] = 0
            elif needed:
                state[listed[-heapreplace(latest, needed)]] = 0
                continue
            else:
                state[listed[-heappop(latest)]] = 0
        if needed:
            heappush(latest, needed)
        else:
            never.append(page)
    return Outcome(np.frombuffer(hits, np.bool_), np.frombuffer(state, np.bool_))
