"""The cache of an image that is written to: changes are private to the inode, and commits break what they must.

A commit moves data to new extents and frees old ones, so after it files find their extents, and keys, anew.
"""

from __future__ import annotations

from stat import S_IFREG
from typing import TYPE_CHECKING, NamedTuple, Self, TypeVar

import numpy as np

from btrimg.errors import NotFoundError, RefusedError
from btrimg.filesystem.inode import Inode
from btrimg.ondisk.blocks import Key
from btrimg.ondisk.constants import InodeFlag, ItemType
from btrimg.ondisk.inodes import InodeItem
from btrimg.pagecache.dirty import HOLE, Changes, PageRun
from btrimg.pagecache.gate import Gate
from btrimg.pagecache.pages import PAGE, Place
from btrimg.pagecache.schemes import DEVICE, INODE, NONE, SCHEMES, Domains
from btrimg.pagecache.store import PageKey, PageStore
from btrimg.pagecache.through import StoredFile
from btrimg.pagecache.writablefile import DirtyFrames, FileState, WritableFile, own_key
from btrimg.write import inodes, names, reflink, subvolumes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from btrimg.pagecache.writeback import Committer, Session

_T = TypeVar("_T")

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


class WritableCache:
    """A page cache of at most *budget* bytes over an image that *committer* writes to (context manager).

    *scheme* and *policy* are names of SCHEMES and POLICIES, *domains* the trust domains. *after* is what becomes of
    dirty pages that are committed, one of AFTER, unless a writeback says otherwise. Dirty pages take at most half of
    the budget: a write that needs more commits all changes first. Closing does so, too. Safe for many threads; the
    image is the cache's meanwhile.
    """

    def __init__(
        self,
        committer: Committer,
        *,
        budget: int,
        scheme: str = "extent",
        policy: str = "lru",
        domains: Domains | None = None,
        after: str = MOVE,
    ) -> None:
        self.image, self.scheme, self.domains = committer.image, SCHEMES[scheme], domains or Domains()
        self.store = PageStore(max(budget // PAGE, 1), policy)
        self.gate, self.after, self.written = Gate(), after, Written()
        self.frames = DirtyFrames(self.store)
        self._states: dict[Place, FileState] = {}
        self._committer = committer
        self._closed = False
        self.commits = 0  #: by which files know that they must look again
        self._changed: dict[Place, int] = {}  # the commit that changed a file last

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Commit all changes, and give the memory back even if they cannot be; errors are those of `writeback`.

        ValueError is raised by what is read or changed afterwards.
        """
        if self._closed:
            return
        self._closed = True
        with self.gate.changing():
            try:
                self.writeback()
            finally:
                self._states.clear()
                self.store.close()

    @property
    def resident(self) -> int:
        """Return how many pages are in memory, dirty or not."""
        return self.store.resident

    def open(self, path: bytes) -> WritableFile:
        """Open the regular file at *path*, from the top-level subvolume, as it is now.

        Raises NotFoundError when it is not there, RefusedError when it is no regular file.
        """
        with self.gate.reading(), self.store.filling:
            inode = self.image.open(path)
            if not inode.is_regular:
                raise RefusedError(f"{inode.quoted} is no regular file: it has no pages")
            return WritableFile(self, inode)

    # Files and what is known of them

    def state_of(self, file: WritableFile) -> FileState | None:
        """Return what is known of a file that was written to; see to it that inode and keys are those of today.

        Raises NotFoundError when it is gone.
        """
        self.store.check_open()
        if file.seen != self.commits:
            with self.store.filling:
                if file.seen != self.commits:
                    self._renew(file)
        return self._states.get(file.place)

    def _renew(self, file: WritableFile) -> None:
        now = self._inode_now(file)
        if now is None:
            place = file.place
            raise NotFoundError(f"inode {place.inode} of subvolume {place.subvolume} is gone: it was deleted")
        file.below.inode = now
        if self._changed.get(file.place, 0) > file.seen:
            file.below.look_up()
        file.seen = self.commits

    def _inode_now(self, file: WritableFile) -> Inode | None:
        """Return the inode of a file as the last commit has it; another one may have got its number since."""
        subvolume_id, ino = file.place
        try:
            subvolume = self.image.subvolume(subvolume_id)
        except NotFoundError:
            return None
        payload = subvolume.tree.find(Key(ino, ItemType.INODE_ITEM, 0))
        if payload is None or (subvolume.root.uuid, InodeItem.unpack(payload).generation) != file.identity:
            return None
        return Inode(self.image, subvolume, ino)

    def state_to_write(self, file: WritableFile) -> FileState:
        """Return the state of a file that is to be changed.

        Raises RefusedError where that must not be, NotFoundError when it is gone.
        """
        state = self.state_of(file)
        if state is None:
            self._refuse_to_write(file.below.inode)
            state = self._states[file.place] = FileState(Changes(self.store.memory, file.below.committed))
        return state

    def _refuse_to_write(self, inode: Inode) -> None:
        subvolume = inode.subvolume
        if self.scheme.name == "device-posted":
            raise RefusedError("under device-posted, what was read may be other files' bytes: nothing is written")
        if subvolume.read_only:
            raise RefusedError(f"subvolume {subvolume.id} is read-only: its files cannot change; take a snapshot of it")
        if inode.item.flags & InodeFlag.VERITY:
            raise RefusedError(f"inode {inode.ino} of subvolume {subvolume.id} is sealed by fs-verity")

    @property
    def dirty(self) -> int:
        """Return how many pages are dirty."""
        return self.frames.taken

    def duplicates(self) -> int:
        """Return how many pages are resident twice: as an inode's own, and by the key that it may share."""
        found = 0
        with self.gate.changing():
            for place, state in self._states.items():
                file = self._stored(place)
                for kept in state.kept:
                    for page, pages, key, _ in file.keys(kept.page, kept.end):
                        own, shared = own_key(place, page), key
                        if own != shared:
                            both = _numbers(self.store.find(own, pages)) & _numbers(self.store.find(shared, pages))
                            found += len(both)
        return found

    # Names

    def create(self, path: bytes, *, mode: int = 0o644) -> WritableFile:
        """Make an empty regular file and open it; errors are those of :func:`btrimg.write.names.enter`."""
        with self.gate.changing():
            directory, name = self._entry(path)

            def work(session: Session) -> int:
                files = session.files(directory.subvolume)
                ino = inodes.create(files, S_IFREG | mode)
                names.enter(files, directory.inode, name, ino, inodes.file_type(S_IFREG))
                return ino

            ino = self._commit([], work)
            return WritableFile(self, Inode(self.image, self.image.subvolume(directory.subvolume), ino))

    def unlink(self, path: bytes) -> None:
        """Take a name away from a file; with the last one the file goes, changes and all.

        Errors are those of :func:`btrimg.write.names.unlink`.
        """
        with self.gate.changing():
            directory, name = self._entry(path)

            def work(session: Session) -> int | None:
                files = session.files(directory.subvolume)
                ino = names.find_inode(files, directory.inode, name)
                last = inodes.read(files, ino).nlink <= 1
                names.unlink(files, directory.inode, name)
                return ino if last else None

            ino = self._commit([], work)
            if ino is not None:
                place = Place(directory.subvolume, ino)
                self._lose(lambda each: each == place)

    def reflink(
        self, source: WritableFile, target: WritableFile, offset: int = 0, length: int = 0, at: int = 0
    ) -> None:
        """Let *length* bytes at *offset* of one file be shared by another from *at* on; 0 means up to the end.

        Changes of both are committed with it. Errors are those of :func:`btrimg.write.reflink.clone_range`.
        """
        with self.gate.changing():
            length, before = length or max(source.size - offset, 0), target.size
            origin, sink = source.place, target.place
            self._refuse_to_write(target.below.inode)

            def work(session: Session) -> None:
                if length:
                    files, others = session.source(origin.subvolume), session.files(sink.subvolume)
                    what = origin.inode, offset, length
                    reflink.clone_range(files, *what, others, sink.inode, at, session.storage)

            over = Span(sink, min(at, before) // PAGE, -(-(at + length) // PAGE))
            self._commit({origin, sink} & self._states.keys(), work, over=over)

    def snapshot(self, source: bytes, path: bytes, *, read_only: bool = False) -> int:
        """Make a snapshot of the subvolume at *source*, with all changes of its files; return its id.

        Errors are those of :func:`btrimg.write.subvolumes.snapshot`.
        """
        with self.gate.changing():
            subvolume, (directory, name) = self._subvolume(source), self._entry(path)

            def work(session: Session) -> int:
                files, parent = session.source(subvolume), session.files(directory.subvolume)
                return subvolumes.snapshot(files, parent, directory.inode, name, read_only=read_only).id

            return self._commit([place for place in self._states if place.subvolume == subvolume], work)

    def delete_subvolume(self, path: bytes) -> None:
        """Delete the subvolume at *path*, and what was changed in its files.

        Errors are those of :func:`btrimg.write.subvolumes.delete`.
        """
        with self.gate.changing():
            subvolume, (directory, name) = self._subvolume(path), self._entry(path)

            def work(session: Session) -> None:
                subvolumes.delete(session.files(directory.subvolume), directory.inode, name)
                session.forget(subvolume)

            self._commit([], work)
            self._lose(lambda place: place.subvolume == subvolume)

    def _entry(self, path: bytes) -> tuple[Place, bytes]:
        """Return the directory of *path*, and the name there."""
        above, _, name = path.rstrip(b"/").rpartition(b"/")
        directory = self.image.open(above or b"/")
        return Place(directory.subvolume.id, directory.ino), name

    def _subvolume(self, path: bytes) -> int:
        inode = self.image.open(path)
        if not inode.is_subvolume:
            raise NotFoundError(f"{inode.quoted} is no subvolume")
        return inode.subvolume.id

    # Commits

    def writeback(self, *files: WritableFile, after: str | None = None) -> None:
        """Commit the changes of *files*, or of all, at once; *after* says what becomes of the pages.

        What it raises leaves everything as it was, dirty: NoSpaceError when the devices are full, DeviceError when they
        cannot be written, and the errors of :mod:`btrimg.write.contents`.
        """
        with self.gate.changing():
            places = {file.place for file in files} & self._states.keys() if files else self._states
            if any(self._states[place].changes for place in places):
                self._commit(places, lambda _: None, after=after)

    def make_room(self) -> None:
        """Commit all changes, because dirty pages may not take more room; errors are those of :meth:`writeback`."""
        self.written = self.written._replace(forced=self.written.forced + 1)
        self.writeback()

    def _commit(
        self,
        places: Iterable[Place],
        work: Callable[[Session], _T],
        *,
        after: str | None = None,
        over: Span | None = None,
    ) -> _T:
        """Commit the changes at *places* and then *work*, by which pages *over* change; return what that does."""
        self.store.check_open()
        changed = [place for place in sorted(places) if self._states[place].changes]
        freed: list[tuple[int, int]] = []
        spaces = self._spaces_by_device()
        with self._committer.session(freed) as session:
            for place in changed:
                session.apply(place.subvolume, place.inode, self._states[place].changes)
            result = work(session)
        self.commits += 1
        self.written = self.written._replace(commits=self.written.commits + 1)
        if over and over.place in self._states:  # what was dirty there has been shared over
            self.frames.give_all(self._states[over.place].changes.punch(over.start, over.end))
        for place in changed:
            self._settle(place, after or self.after)
        if over:
            self._lose_pages(over)
            self._size_anew(over.place)
        self._lose_freed(freed, spaces)
        return result

    def _settle(self, place: Place, after: str) -> None:
        """Find new homes for the pages of a file whose changes have been committed."""
        state = self._states[place]
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
        state = self._states.get(place)
        if state is None:
            return
        if state.kept:
            inode = Inode(self.image, self.image.subvolume(place.subvolume), place.inode)
            state.changes = Changes(self.store.memory, inode.item.size)
        else:
            del self._states[place]

    def _stored(self, place: Place) -> StoredFile:
        """Return a file as it is committed now."""
        inode = Inode(self.image, self.image.subvolume(place.subvolume), place.inode)
        return StoredFile(self.store, inode, self.scheme, self.domains)

    # What is found no more

    def _lose_pages(self, span: Span) -> None:
        """Forget what is cached as the inode's own of pages that changed; its files look up their keys anew."""
        place, start, end = span
        end = max(start, end)
        self._changed[place] = self.commits
        for kind in (INODE, NONE):
            self.store.discard(PageKey(place.subvolume << 8 | kind, place.inode, start), end - start)
        if place in self._states:
            self._states[place].kept.take(start, end)

    def _lose(self, gone: Callable[[Place], bool]) -> None:
        """Forget files that are *gone*: their changes and what is cached as their own. Numbers come again."""
        for place in list(filter(gone, self._states)):
            self.frames.give_all(run for run in self._states.pop(place).changes.settle())
        self.store.discard_where(lambda space, unit: space & 0xFF in (INODE, NONE) and gone(Place(space >> 8, unit)))

    def _lose_freed(self, freed: Sequence[tuple[int, int]], spaces: Iterable[int]) -> None:
        """Forget pages of extents that were freed, where no key would tell: the next commit may write there."""
        stale = 0
        for space in spaces:
            for logical, length in freed:
                while length > 0:
                    where = self.image.volume.chunk_map.locate(logical)
                    devid, physical = where.copies[0]
                    piece = min(length, where.length)
                    stale += self.store.discard(PageKey(space, devid, physical // PAGE), -(-piece // PAGE))
                    logical, length = logical + piece, length - piece
        self.written = self.written._replace(stale=self.written.stale + stale)

    def _spaces_by_device(self) -> list[int]:
        """Return the spaces of the keys that only say where on a device a page lies, one per trust domain."""
        if self.scheme.name != "device":
            return []
        every = np.array([subvolume.id for subvolume in self.image.subvolumes()], np.int64)
        return [number << 8 | DEVICE for number in sorted({*self.domains.domain_of(every).tolist()})]


def _numbers(runs: Iterable[PageRun]) -> set[int]:
    """Return the pages in *runs*."""
    return {page for run in runs for page in range(run.page, run.end)}
