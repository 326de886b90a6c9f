"""The cache of an image that is written to: changes are private to the inode, and commits break what they must.

A commit moves data to new extents and frees old ones, so after it files find their extents, and keys, anew.
"""

from __future__ import annotations

from stat import S_IFREG
from typing import TYPE_CHECKING, Self, TypeVar

from btrimg.errors import NotFoundError, RefusedError
from btrimg.filesystem.inode import Inode
from btrimg.ondisk.blocks import Key
from btrimg.ondisk.constants import InodeFlag, ItemType
from btrimg.ondisk.inodes import InodeItem
from btrimg.pagecache.aftermath import MOVE, Aftermath, Span, Written
from btrimg.pagecache.dirty import Changes
from btrimg.pagecache.gate import Gate
from btrimg.pagecache.pages import PAGE, Place
from btrimg.pagecache.schemes import SCHEMES, Domains
from btrimg.pagecache.store import PageStore
from btrimg.pagecache.writablefile import FileState, WritableFile
from btrimg.write import inodes, names, reflink, subvolumes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from btrimg.pagecache.writeback import Committer, Session

_T = TypeVar("_T")


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
        self.gate, self.after = Gate(), after
        self._aftermath = Aftermath(self.image, self.store, self.scheme, self.domains)
        self.frames, self._states = self._aftermath.frames, self._aftermath.states
        self._committer = committer
        self._closed = False

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
        if self._aftermath.changed_since(file.place, file.seen):
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
        with self.gate.changing():
            return self._aftermath.duplicates()

    @property
    def written(self) -> Written:
        """Return what became of pages that were written, since the cache was opened."""
        return self._aftermath.written

    @property
    def commits(self) -> int:
        """Return how many commits there were, by which files know that they must look again."""
        return self._aftermath.commits

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
                self._aftermath.lose(lambda each: each == place)

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
            self._aftermath.lose(lambda place: place.subvolume == subvolume)

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
        self._aftermath.forced()
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
        spaces = self._aftermath.spaces_by_device()
        with self._committer.session(freed) as session:
            for place in changed:
                session.apply(place.subvolume, place.inode, self._states[place].changes)
            result = work(session)
        self._aftermath.committed(changed, after or self.after, over, freed, spaces)
        return result
