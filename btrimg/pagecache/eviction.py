"""Which page to give up: LRU, CLOCK, S3-FIFO, Linux's two lists, and Belady's bound for what has already happened.

A policy knows pages by number (frames of the cache, or numbers of keys in a replay) and is told what happens to them;
it holds no bytes. Driven page by page, LRU, CLOCK and S3-FIFO decide as libCacheSim's do, eviction for eviction.
All are made of one part, :class:`Order`, a queue.
"""

from __future__ import annotations

from collections import OrderedDict
from math import isqrt
from typing import TYPE_CHECKING, Protocol

import numpy as np

from btrimg.pagecache.order import Order, index_of
from btrimg.pagecache.pages import PAGE

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable

    from btrimg.pagecache.order import Pages


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
            self._flags[index_of(pages)] = 0

    def touch(self, pages: Pages) -> None:
        """See :class:`Policy`."""
        if len(pages) == 1:
            self._used[pages[0]] = 1
        else:
            self._flags[index_of(pages)] = 1

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
            run = self._counts[index_of(pages)]
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
