"""Which page to give up: LRU, CLOCK, S3-FIFO, Linux's two lists, and Belady's bound for what has already happened.

A policy knows pages by number (frames of the cache, or numbers of keys in a replay) and is told what happens to them;
it holds no bytes. Driven page by page, LRU, CLOCK and S3-FIFO decide as libCacheSim's do, eviction for eviction.
All are made of one part, :class:`Order`: a queue in which pages can be moved to the end, by runs, in constant time.
"""

from __future__ import annotations

from array import array
from collections import OrderedDict, deque
from math import isqrt
from typing import TYPE_CHECKING, Protocol

import numpy as np

from btrimg.pagecache.pages import PAGE

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable

    from btrimg.pagecache.pages import Ints

    Pages = range | list[int] | tuple[int, ...] | Ints  #: numbers of pages; a range is fastest

_COMPACT = 4096  # entries that an Order's log may hold, however short the queue is


class Policy(Protocol):
    """What a cache tells about its pages, and asks: which one goes.

    A full cache first calls :meth:`evict`, as often as it takes, and then :meth:`admit`. The threads of a cache
    take turns: a policy has no lock of its own.
    """

    #: whether it remembers pages that are gone, and wants to know them again by their keys
    remembers: bool

    def admit(self, pages: Pages, keys: Iterable[Hashable] | None = None) -> None:
        """Take in pages that were read in this order. *keys* are only looked at by a policy that remembers.

        Without *keys*, a page number always stands for the same page of the same file.
        """

    def touch(self, pages: Pages) -> None:
        """Note that *pages*, which are all here, were hit in this order; one may occur several times."""

    def evict(self) -> int:
        """Choose a page, forget it, and return its number; IndexError if there is none."""

    def forget(self, pages: Pages) -> None:
        """Drop pages that are gone for another reason: truncated, invalidated. Those not here do not matter."""


class MakePolicy(Protocol):
    """Make a policy for *capacity* pages, whose numbers are below *numbers*, or the capacity."""

    def __call__(self, capacity: int, numbers: int | None = None) -> Policy: ...  # noqa: D102


class Order:
    """A queue of page numbers below *numbers*. Pages are appended by runs, and one that is here moves to the end.

    What was appended is a log of runs, its entries counted up from 1. A page knows its newest entry; older ones are
    stale. The runs are kept as they were given: nobody may change them afterwards.
    """

    def __init__(self, numbers: int) -> None:
        self._entry = array("q", bytes(8 * numbers))  # of each page; 0: is not here
        self._entries = np.frombuffer(self._entry, np.int64)
        self._head: list[int] = []  # the oldest run, reversed
        self._log: deque[Pages | list[int]] = deque()  # those after it
        self._tail: list[int] = []  # those that were appended one by one since
        self._oldest = self._next = 1  # entries: of the last page of _head, and of what is appended next
        self._full = _COMPACT  # the entry at which to look whether the log is too long
        self.length = 0  #: pages that are here

    def __contains__(self, page: int) -> bool:
        return self._entry[page] != 0

    def add(self, pages: Pages) -> None:
        """Append pages that are not here."""
        self.length += len(pages)
        self.renew(pages)

    def append(self, page: int) -> None:
        """Append one page that is not here."""
        entry = self._next
        self._entry[page] = entry
        self._tail.append(page)
        self.length += 1
        self._next = entry + 1
        if entry >= self._full:
            self._tidy()

    def renew(self, pages: Pages) -> None:
        """Move pages that are here to the end; one may occur several times."""
        entry, count = self._next, len(pages)
        self._next += count
        if count == 1:
            page = int(pages[0])
            self._entry[page] = entry
            self._tail.append(page)
        elif count:
            self._entries[_index(pages)] = np.arange(entry, entry + count)  # of equal indices, the last counts
            if self._tail:
                self._log.append(self._tail)
                self._tail = []
            self._log.append(pages)
        if self._next > self._full:
            self._tidy()

    def pop(self) -> int:
        """Take the oldest page out; IndexError if there is none."""
        head, entry = self._head, self._oldest
        while True:
            while head:
                page = head.pop()
                if self._entry[page] == entry:
                    self._entry[page] = 0
                    self._oldest = entry + 1
                    self.length -= 1
                    return page
                entry += 1
            self._oldest = entry
            if self._log:
                run = self._log.popleft()
                head = run.tolist() if isinstance(run, np.ndarray) else list(run)
            elif self._tail:
                head, self._tail = self._tail, []
            else:
                raise IndexError("there is no page")
            head.reverse()
            self._head = head

    def drop(self, pages: Pages) -> int:
        """Take *pages* out, wherever they are, and return how many of them were here."""
        before = self.length
        for page in pages:
            if self._entry[page]:
                self._entry[page] = 0
                self.length -= 1
        return before - self.length

    def _tidy(self) -> None:
        """Leave stale entries out of the log if it is too long: less than a third of them are alive then."""
        if self._next - self._oldest > 4 * self.length + _COMPACT:
            self._compact()
        self._full = self._oldest + 4 * self.length + _COMPACT

    def _compact(self) -> None:
        pages = np.concatenate([np.asarray(run, np.int64) for run in (self._head[::-1], *self._log, self._tail)])
        fresh = self._entries[pages] == np.arange(self._oldest, self._next)
        alive = pages[fresh]
        self._oldest = self._next - len(alive)
        self._entries[alive] = np.arange(self._oldest, self._next)
        self._log.clear()
        self._tail.clear()
        self._head = alive.tolist()
        self._head.reverse()


def _index(pages: Pages) -> slice | Ints:
    """Return what picks *pages* out of an array."""
    if isinstance(pages, range) and pages.step == 1:
        return slice(pages.start, pages.stop)
    return np.asarray(pages, np.int64)


class Lru:
    """The page that was not used for longest goes."""

    remembers = False

    def __init__(self, capacity: int, numbers: int | None = None) -> None:
        self._order = Order(capacity if numbers is None else numbers)

    def admit(self, pages: Pages, keys: Iterable[Hashable] | None = None) -> None:
        """See :class:`Policy`."""
        self._order.add(pages)

    def touch(self, pages: Pages) -> None:
        """See :class:`Policy`."""
        self._order.renew(pages)

    def evict(self) -> int:
        """See :class:`Policy`."""
        return self._order.pop()

    def forget(self, pages: Pages) -> None:
        """See :class:`Policy`."""
        self._order.drop(pages)


class Clock:
    """The oldest page goes, unless it was used since it was last looked at: then it gets another round."""

    remembers = False

    def __init__(self, capacity: int, numbers: int | None = None) -> None:
        numbers = capacity if numbers is None else numbers
        self._order = Order(numbers)
        self._used = bytearray(numbers)
        self._flags = np.frombuffer(self._used, np.uint8)

    def admit(self, pages: Pages, keys: Iterable[Hashable] | None = None) -> None:
        """See :class:`Policy`."""
        if len(pages) == 1:
            self._order.append(page := pages[0])
            self._used[page] = 0
        else:
            self._order.add(pages)
            self._flags[_index(pages)] = 0

    def touch(self, pages: Pages) -> None:
        """See :class:`Policy`."""
        if len(pages) == 1:
            self._used[pages[0]] = 1
        else:
            self._flags[_index(pages)] = 1

    def evict(self) -> int:
        """See :class:`Policy`."""
        order, used = self._order, self._used
        while used[page := order.pop()]:
            used[page] = 0
            order.append(page)
        return page

    def forget(self, pages: Pages) -> None:
        """See :class:`Policy`."""
        self._order.drop(pages)


class S3Fifo:
    """Three queues (Yang and others, SOSP 2023): most pages leave early, by the small one, and never see the main one.

    A tenth of the capacity is the small queue. What is used twice there moves to the main queue, and so does what comes
    back soon after it left: the ghost queue remembers the keys of 0.9 times the capacity. The main queue is a CLOCK
    with a counter up to 3. Parameters are libCacheSim's, whose small queue takes nothing in below 20 pages; ours does.
    """

    remembers = True

    def __init__(self, capacity: int, numbers: int | None = None) -> None:
        numbers = capacity if numbers is None else numbers
        self._small_size, self._main_size, self._ghost_size = s3_sizes(capacity)
        self._small, self._main = Order(numbers), Order(numbers)
        self._uses = bytearray(numbers)  # at most 3
        self._counts = np.frombuffer(self._uses, np.uint8)
        self._keys: dict[int, Hashable] = {}  # of pages in the small queue, where they are not the page number
        self._ghost: OrderedDict[Hashable, None] = OrderedDict()
        self._leaving: list[Hashable] = []  # will be ghosts once it is known which page took their place
        self._evicted = False

    def admit(self, pages: Pages, keys: Iterable[Hashable] | None = None) -> None:
        """See :class:`Policy`."""
        ghost = self._ghost
        for page, key in zip(pages, pages if keys is None else keys, strict=True):
            self._uses[page] = 0
            # A page that is asked for is looked up before another makes room for it: its ghost is the last to go.
            if key in ghost:
                del ghost[key]
                self._main.append(page)
            elif not self._evicted and self._small.length >= self._small_size:
                self._main.append(page)
            else:
                self._small.append(page)
                if keys is not None:
                    self._keys[page] = key
        if self._leaving:
            for key in self._leaving:
                ghost[key] = None
                if len(ghost) > self._ghost_size:
                    ghost.popitem(last=False)
            self._leaving.clear()

    def touch(self, pages: Pages) -> None:
        """See :class:`Policy`."""
        uses = self._uses
        if isinstance(pages, range):
            run = self._counts[_index(pages)]
            run += run < 3
        else:
            for page in pages if not isinstance(pages, np.ndarray) else pages.tolist():
                if uses[page] < 3:
                    uses[page] += 1

    def evict(self) -> int:
        """See :class:`Policy`."""
        self._evicted = True
        if self._main.length <= self._main_size and self._small.length:
            page = self._evict_small()
            if page is not None:
                return page
        uses, main = self._uses, self._main
        while uses[page := main.pop()]:
            uses[page] -= 1
            main.append(page)
        return page

    def _evict_small(self) -> int | None:
        """Return a page that was not used twice; those that were move to the main queue, and they may be all."""
        small, keys = self._small, self._keys
        while small.length:
            page = small.pop()
            key = keys.pop(page, page) if keys else page
            if self._uses[page] < 2:
                self._leaving.append(key)
                return page
            self._uses[page] = 0
            self._main.append(page)
        return None

    def forget(self, pages: Pages) -> None:
        """See :class:`Policy`."""
        self._main.drop(pages)
        if self._small.drop(pages):
            for page in pages:
                self._keys.pop(page, None)


def s3_sizes(capacity: int) -> tuple[int, int, int]:
    """Return how many pages S3-FIFO's small, main and ghost queues are for."""
    small = int(capacity * 0.1)
    return max(small, 1), capacity - small, int(capacity * 0.9)


class TwoList:
    """Linux's lists of file pages, active and inactive, with refaults; as ``read()`` uses them.

    A page that was read is inactive and referenced; read once more, it becomes active (mm/swap.c
    folio_mark_accessed). The oldest inactive page goes (mm/vmscan.c shrink_inactive_list), referenced or not, for it
    is not mapped. The active list gives up its oldest as long as it is longer than the inactive one times a ratio that
    grows with memory (inactive_is_low). A page that left and is read again becomes active at once if no more was
    evicted and activated since than the active list is long (mm/workingset.c workingset_refault).

    Simplified: there is one zone, one cgroup and no anonymous memory; lists are trimmed page by page, not by 32; every
    page brought in was asked for, also by readahead; no page is mapped, executable, dirty or under writeback.
    """

    remembers = True

    def __init__(self, capacity: int, numbers: int | None = None) -> None:
        numbers = capacity if numbers is None else numbers
        self._capacity = capacity
        self._ratio = inactive_ratio(capacity)
        self._inactive, self._active = Order(numbers), Order(numbers)
        self._referenced = bytearray(numbers)
        self._keys: dict[int, Hashable] = {}  # of the pages here, where they are not the page number
        self._age = 0  # evictions and activations so far: workingset.c's nonresident_age
        self._gone: OrderedDict[Hashable, int] = OrderedDict()  # the age at which pages left

    def admit(self, pages: Pages, keys: Iterable[Hashable] | None = None) -> None:
        """See :class:`Policy`."""
        if keys is not None:
            keys = list(keys)
            self._keys.update(zip(pages, keys, strict=True))
        for page, key in zip(pages, pages if keys is None else keys, strict=True):
            self._referenced[page] = 1
            left = self._gone.pop(key, None)
            if left is not None and self._age - left <= self._active.length:
                self._active.append(page)
                self._age += 1
            else:
                self._inactive.append(page)

    def touch(self, pages: Pages) -> None:
        """See :class:`Policy`."""
        referenced, inactive = self._referenced, self._inactive
        for page in pages if not isinstance(pages, np.ndarray) else pages.tolist():
            if not referenced[page]:
                referenced[page] = 1
            elif page in inactive:
                inactive.drop((page,))
                self._active.append(page)
                self._age += 1
                referenced[page] = 0

    def evict(self) -> int:
        """See :class:`Policy`."""
        while self._active.length > self._inactive.length * self._ratio:
            self._inactive.append(self._active.pop())
        page = self._inactive.pop()
        self._gone[self._keys.pop(page, page) if self._keys else page] = self._age
        self._age += 1
        if len(self._gone) > 2 * self._capacity:
            self._forget_ghosts()
        return page

    def _forget_ghosts(self) -> None:
        """Drop those that left so long ago that they would not be activated: the active list is never longer."""
        while self._age - next(iter(self._gone.values())) > self._capacity:
            self._gone.popitem(last=False)

    def forget(self, pages: Pages) -> None:
        """See :class:`Policy`."""
        self._inactive.drop(pages)
        self._active.drop(pages)
        if self._keys:
            for page in pages:
                self._keys.pop(page, None)


def inactive_ratio(capacity: int) -> int:
    """Return how many times as long as the inactive list the active one may be (mm/vmscan.c inactive_is_low)."""
    gib = capacity * PAGE >> 30
    return isqrt(10 * gib) if gib else 1


POLICIES: dict[str, MakePolicy] = {"lru": Lru, "clock": Clock, "s3-fifo": S3Fifo, "two-list": TwoList}
