"""What becomes of pages once changes of files are committed: new homes for some, and some are found no more."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from btrimg.filesystem.inode import Inode
from btrimg.named import NamedTuple
from btrimg.pagecache.dirty import HOLE, Changes, PageRun
from btrimg.pagecache.pages import PAGE, Place
from btrimg.pagecache.schemes import DEVICE, INODE, NONE
from btrimg.pagecache.store import PageKey
from btrimg.pagecache.through import StoredFile
from btrimg.pagecache.writablefile import DirtyFrames, FileState, own_key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from btrimg.filesystem.image import Image
    from btrimg.pagecache.schemes import Domains, Scheme
    from btrimg.pagecache.store import PageStore

#: What becomes of a dirty page once it is committed: it stays the inode's own and keeps winning, as in the posted
#: patches; it is given up; or it gets the key of the extent that it went to, and whoever shares that later hits it.
KEEP, DROP, MOVE = AFTER = ("keep", "drop", "move")


class Span(NamedTuple):
    """Pages [start, end) of a file."""

    place: Place
    start: int
    end: int


class Written(NamedTuple):
    """What became of pages that were written, since the cache was opened."""

    pages: int = 0  #: committed
    commits: int = 0
    forced: int = 0  #: commits made because dirty pages took all the room that they may
    kept: int = 0  #: pages that stayed the inode's own
    moved: int = 0  #: pages that got the key of their new extent
    dropped: int = 0  #: pages given up, also because others had the key already
    stale: int = 0  #: pages thrown away because nothing in their key would have told that their extent was freed


class Aftermath:
    """The files of a cache that were written to, and what commits make of their pages. Who calls is alone."""

    def __init__(self, image: Image, store: PageStore, scheme: Scheme, domains: Domains) -> None:
        self._image, self._store, self._how = image, store, (scheme, domains)
        self.frames = DirtyFrames(store)
        self.states: dict[Place, FileState] = {}
        self.written = Written()
        self.commits = 0  #: by which files know that they must look again
        self._changed: dict[Place, int] = {}  # the commit that changed a file last

    def changed_since(self, place: Place, commit: int) -> bool:
        """Return whether a later commit than that one changed a file."""
        return self._changed.get(place, 0) > commit

    def duplicates(self) -> int:
        """Return how many pages are resident twice: as an inode's own, and by the key that it may share."""
        found = 0
        for place, state in self.states.items():
            file = self._stored(place)
            for kept in state.kept:
                for page, pages, key, _ in file.keys(kept.page, kept.end):
                    own, shared = own_key(place, page), key
                    if own != shared:
                        both = _numbers(self._store.find(own, pages)) & _numbers(self._store.find(shared, pages))
                        found += len(both)
        return found

    def forced(self) -> None:
        """Count a commit that is made because dirty pages may not take more room."""
        self.written = self.written._replace(forced=self.written.forced + 1)

    def committed(
        self,
        places: Sequence[Place],
        after: str,
        over: Span | None,
        freed: Sequence[tuple[int, int]],
        spaces: list[int],
    ) -> None:
        """Do all that is to be done when the changes at *places* have been committed, and *freed* extents with them.

        Pages *over* have been shared over. *spaces* are those that :meth:`spaces_by_device` gave before.
        """
        self.commits += 1
        self.written = self.written._replace(commits=self.written.commits + 1)
        if over and over.place in self.states:  # what was dirty there has been shared over
            self.frames.give_all(self.states[over.place].changes.punch(over.start, over.end))
        for place in places:
            self._settle(place, after)
        if over:
            self._lose_pages(over)
            self._size_anew(over.place)
        self._lose_freed(freed, spaces)

    def _settle(self, place: Place, after: str) -> None:
        """Find new homes for the pages of a file whose changes have been committed."""
        state = self.states[place]
        last = -(-max(state.changes.committed, state.changes.size) // PAGE)
        for start, end in state.changes.changed():
            self._lose_pages(Span(place, start, min(end, last)))
        runs = state.changes.settle()
        pages = sum(run.pages for run in runs)
        kept = moved = 0
        if after == KEEP:
            for run in runs:
                kept += self.frames.admit(run, own_key(place, run.page))
                state.kept.put(PageRun(run.page, run.pages, HOLE))
        elif after == MOVE:
            file = self._stored(place)
            for run in runs:
                for page, count, key, _ in file.keys(run.page, run.end):
                    moved += self.frames.admit(run.part(page, page + count), key)
        else:
            self.frames.give_all(runs)
        written = self.written
        self.written = written._replace(
            pages=written.pages + pages,
            kept=written.kept + kept,
            moved=written.moved + moved,
            dropped=written.dropped + pages - kept - moved,
        )
        self._size_anew(place)

    def _size_anew(self, place: Place) -> None:
        """Begin the changes of a file anew over what is committed; forget a file of which nothing is known."""
        state = self.states.get(place)
        if state is None:
            return
        if state.kept:
            inode = Inode(self._image, self._image.subvolume(place.subvolume), place.inode)
            state.changes = Changes(self._store.memory, inode.item.size)
        else:
            del self.states[place]

    def _stored(self, place: Place) -> StoredFile:
        """Return a file as it is committed now."""
        inode = Inode(self._image, self._image.subvolume(place.subvolume), place.inode)
        return StoredFile(self._store, inode, *self._how)

    def _lose_pages(self, span: Span) -> None:
        """Forget what is cached as the inode's own of pages that changed; its files look up their keys anew."""
        place, start, end = span
        end = max(start, end)
        self._changed[place] = self.commits
        for kind in (INODE, NONE):
            self._store.discard(PageKey(place.subvolume << 8 | kind, place.inode, start), end - start)
        if place in self.states:
            self.states[place].kept.take(start, end)

    def lose(self, gone: Callable[[Place], bool]) -> None:
        """Forget files that are *gone*: their changes and what is cached as their own. Numbers come again."""
        for place in list(filter(gone, self.states)):
            self.frames.give_all(run for run in self.states.pop(place).changes.settle())
        self._store.discard_where(lambda space, unit: space & 0xFF in (INODE, NONE) and gone(Place(space >> 8, unit)))

    def _lose_freed(self, freed: Sequence[tuple[int, int]], spaces: Iterable[int]) -> None:
        """Forget pages of extents that were freed, where no key would tell: the next commit may write there."""
        stale = 0
        for space in spaces:
            for logical, length in freed:
                while length > 0:
                    where = self._image.volume.chunk_map.locate(logical)
                    devid, physical = where.copies[0]
                    piece = min(length, where.length)
                    stale += self._store.discard(PageKey(space, devid, physical // PAGE), -(-piece // PAGE))
                    logical, length = logical + piece, length - piece
        self.written = self.written._replace(stale=self.written.stale + stale)

    def spaces_by_device(self) -> list[int]:
        """Return the spaces of the keys that only say where on a device a page lies, one per trust domain."""
        if self._how[0].name != "device":
            return []
        every = np.array([subvolume.id for subvolume in self._image.subvolumes()], np.int64)
        return [number << 8 | DEVICE for number in sorted({*self._how[1].domain_of(every).tolist()})]


def _numbers(runs: Iterable[PageRun]) -> set[int]:
    """Return the pages in *runs*."""
    return {page for run in runs for page in range(run.page, run.end)}
