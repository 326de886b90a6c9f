"""CLOCK, S3-FIFO and Linux's two lists over a whole sequence of page accesses: each policy as one loop.

They make of it, access by access, what the policies of :mod:`btrimg.pagecache.eviction` do when they are driven page by
page; see there for what they stand for. With all pages numbered, and none that is forgotten, one byte says how things
stand with each, and nothing else is asked of the many that hit.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Protocol

import numpy as np

from btrimg.pagecache.eviction import inactive_ratio, s3_sizes
from btrimg.pagecache.offline import Outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from btrimg.pagecache.pages import Ints

    Progress = Callable[[int], None] | None

_CHUNK = 1 << 16  # accesses that are Python's numbers at once
_NEVER = -1 << 62


class Loop(Protocol):
    """Return what a cache of *capacity* pages, empty at first, makes of *pages*, numbers below *numbers*."""

    def __call__(  # noqa: D102
        self, pages: Ints, capacity: int, numbers: int, progress: Progress = None
    ) -> Outcome: ...


def _numbered(pages: Ints, progress: Progress) -> Iterator[enumerate[int]]:
    """Yield the accesses as (number of the access, page), some at a time."""
    for start in range(0, len(pages), _CHUNK):
        chunk = pages[start : start + _CHUNK].tolist()
        yield enumerate(chunk, start)
        if progress:
            progress(len(chunk))


def _outcome(hits: bytearray, state: bytearray) -> Outcome:
    return Outcome(np.frombuffer(hits, np.bool_), np.frombuffer(state, np.uint8) != 0)


def clock(pages: Ints, capacity: int, numbers: int, progress: Progress = None) -> Outcome:
    """See :class:`Loop`. The queue is a ring: a page that gets another round stays, and the hand goes on."""
    state = bytearray(numbers)  # of each page: 1 is here, 2 was used since it was looked at
    hits = bytearray(b"\1") * len(pages)
    ring: list[int] = []
    hand = 0
    for chunk in _numbered(pages, progress):
        for at, page in chunk:
            if state[page]:
                state[page] = 2
                continue
            hits[at] = 0
            state[page] = 1
            if len(ring) < capacity:
                ring.append(page)
                continue
            while state[old := ring[hand]] == 2:
                state[old] = 1
                hand += 1
                if hand == capacity:
                    hand = 0
            state[old] = 0
            ring[hand] = page
            hand += 1
            if hand == capacity:
                hand = 0
    return _outcome(hits, state)


def s3_fifo(pages: Ints, capacity: int, numbers: int, progress: Progress = None) -> Outcome:
    """See :class:`Loop`.

    Ghosts are numbered as they come, from 1. Those above *gone* are remembered, but for those that came back. While
    there is *space* for more, none goes. With a function for what misses, all of it takes up to 9 % longer.
    """
    small_size, main_size, ghost_size = s3_sizes(capacity)
    state = bytearray(numbers)  # of each page that is here: 1 and how often it was used, 3 times at most
    hits = bytearray(b"\1") * len(pages)
    ghost = [0] * numbers  # of each page: its number as a ghost
    back = bytearray(len(pages) + 2)  # of each of these numbers: whether the page came back
    newest, gone, space = 0, 0, ghost_size
    small: deque[int] = deque()
    main: deque[int] = deque()
    room, mains = capacity, 0  # mains: pages in the main queue, and the one that is about to be
    for chunk in _numbered(pages, progress):
        for at, page in chunk:
            used = state[page]
            if used:
                if used < 4:
                    state[page] = used + 1
                continue
            hits[at] = 0
            state[page] = 1
            queue, most = small, main_size
            if ghost[page] > gone:
                back[ghost[page]] = 1
                ghost[page] = 0
                space += 1
                queue, most = main, main_size + 1
                mains += 1
            if room:
                room -= 1
                if len(small) >= small_size:
                    queue = main
                    mains += 1
                queue.append(page)
                continue
            if mains <= most:
                try:
                    while state[old := small.popleft()] > 2:
                        state[old] = 1
                        main.append(old)
                        mains += 1
                except IndexError:
                    pass  # all were used twice, if there were any
                else:
                    state[old] = 0
                    queue.append(page)
                    newest += 1
                    ghost[old] = newest
                    if space:
                        space -= 1
                    else:
                        gone += 1
                        while back[gone]:
                            gone += 1
                    continue
            while (used := state[old := main.popleft()]) > 1:
                state[old] = used - 1
                main.append(old)
            mains -= 1
            state[old] = 0
            queue.append(page)
    return _outcome(hits, state)


def two_list(pages: Ints, capacity: int, numbers: int, progress: Progress = None) -> Outcome:
    """See :class:`Loop`."""
    ratio = inactive_ratio(capacity)
    most = capacity * ratio // (1 + ratio)  # pages that may be active in a full cache: ratio times the rest
    state = bytearray(numbers)  # of each page: 1 inactive, 2 and referenced, 3 active, 4 and referenced
    hits = bytearray(b"\1") * len(pages)
    left = [_NEVER] * numbers  # of each page: the age at which it left
    stale = bytearray(numbers)  # of each page: how often it is in the inactive queue though it became active since
    inactive: deque[int] = deque()
    active: deque[int] = deque()
    actives = age = 0  # pages that are active; evictions and activations so far
    room = capacity
    for chunk in _numbered(pages, progress):
        for at, page in chunk:
            now = state[page]
            if now:
                if now == 2:
                    state[page] = 3
                    if stale[page] == 255:
                        inactive = _without_stale(inactive, stale)
                    stale[page] += 1
                    actives += 1
                    active.append(page)
                    age += 1
                elif now != 4:
                    state[page] = now + 1
                continue
            hits[at] = 0
            if room:
                room -= 1
            else:
                while actives > most:
                    old = active.popleft()
                    state[old] -= 2
                    inactive.append(old)
                    actives -= 1
                while stale[old := inactive.popleft()]:
                    stale[old] -= 1
                state[old] = 0
                left[old] = age
                age += 1
            if age - left[page] > actives:
                state[page] = 2
                inactive.append(page)
            else:
                state[page] = 4
                active.append(page)
                actives += 1
                age += 1
    return _outcome(hits, state)


def _without_stale(inactive: deque[int], stale: bytearray) -> deque[int]:
    """Return the queue without its stale entries, of which none are counted then."""
    kept: deque[int] = deque()
    for page in inactive:
        if stale[page]:
            stale[page] -= 1
        else:
            kept.append(page)
    return kept


LOOPS: dict[str, Loop] = {"clock": clock, "s3-fifo": s3_fifo, "two-list": two_list}
