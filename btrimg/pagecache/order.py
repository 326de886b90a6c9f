"""A queue of pages in which any moves to the end, by runs, in constant time: what eviction policies are made of."""

from __future__ import annotations

from array import array
from collections import deque
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from btrimg.pagecache.pages import Ints

    Pages = range | list[int] | tuple[int, ...] | Ints  #: numbers of pages; a range is fastest

_COMPACT = 4096  # entries that an Order's log may hold, however short the queue is


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
            self._entries[index_of(pages)] = np.arange(entry, entry + count)  # of equal indices, the last counts
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


def index_of(pages: Pages) -> slice | Ints:
    """Return what picks *pages* out of an array."""
    if isinstance(pages, range) and pages.step == 1:
        return slice(pages.start, pages.stop)
    return np.asarray(pages, np.int64)
