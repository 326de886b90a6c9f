"""A regular file that is written to through a page cache: what is known of it, and how it is read and changed.

It is read as it is now: its own changes first, then pages that it kept from a writeback, then what it shares. Several
of these may stand for one file; what was changed is kept once, by the cache.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from btrimg.errors import BtrimgError
from btrimg.pagecache.dirty import COMMITTED, HOLE, Changes, PageMap, PageRun
from btrimg.pagecache.pages import PAGE, Place
from btrimg.pagecache.schemes import INODE
from btrimg.pagecache.store import PageKey, PageStore
from btrimg.pagecache.through import StoredFile, copy_out
from btrimg.write.fileextents import check_range

if TYPE_CHECKING:
    from collections.abc import Iterable

    from typing_extensions import Buffer

    from btrimg.filesystem.inode import Inode
    from btrimg.pagecache.writable import WritableCache


class FileState:
    """What is known of a file that was written to."""

    __slots__ = ("changes", "kept")

    def __init__(self, changes: Changes) -> None:
        self.changes = changes
        self.kept = PageMap()  # holes: the pages that may be cached as the inode's own, beside those that are shared


class DirtyFrames:
    """The frames of dirty pages: at most half of all, so that there is room to read, and at least one."""

    def __init__(self, store: PageStore) -> None:
        self._store, self._most = store, max(store.pages // 2, 1)
        self.taken = 0

    def take(self, pages: int) -> list[range]:
        """Return runs of frames for *pages* pages, or for as many as there may be."""
        found = self._store.take_frames(min(pages, self._most - self.taken))
        self.taken += sum(map(len, found))
        return found

    def give(self, frames: range) -> None:
        """Take frames back."""
        self._store.give_frames(frames)
        self.taken -= len(frames)

    def give_all(self, runs: Iterable[PageRun]) -> None:
        """Take back the frames of pages."""
        for run in runs:
            self.give(range(run.frame, run.frame + run.pages))

    def admit(self, run: PageRun, key: PageKey) -> int:
        """Let pages that are dirty no more be found by *key*; return how many of them others did not have already."""
        self.taken -= run.pages
        return self._store.admit(key, range(run.frame, run.frame + run.pages))


class WritableFile:
    """A regular file that is read and written through the cache; several of one file show the same.

    After the file is deleted, everything raises NotFoundError. Made by :meth:`WritableCache.open`.
    It has no mapped views: after a commit, other files may be written to the space that they show.
    """

    def __init__(self, cache: WritableCache, inode: Inode) -> None:
        self.cache = cache
        self.below = StoredFile(cache.store, inode, cache.scheme, cache.domains)
        self.seen = cache.commits  #: the commit that extents and keys are of
        #: what tells the file from others that get its number once it is deleted
        self.identity = inode.subvolume.root.uuid, inode.item.generation

    @property
    def place(self) -> Place:
        """Return which file it is."""
        return self.below.place

    # Reading

    @property
    def size(self) -> int:
        """Return the bytes of the file, with what was changed."""
        with self.cache.gate.reading():
            state = self._state()
            return state.changes.size if state else self.below.committed

    def read(self, offset: int, length: int) -> bytes:
        """Return bytes [offset, offset + length), fewer at the end of the file; errors are those of `readinto`."""
        data = bytearray(max(min(length, self.size - offset), 0))
        return bytes(memoryview(data)[: self.readinto(data, offset)])

    def readinto(self, buffer: Buffer, offset: int = 0) -> int:
        """Fill *buffer* from *offset* on, and return how many bytes the file had there.

        Raises ChecksumError or DeviceError when they cannot be had.
        """
        room = memoryview(buffer).cast("B")
        with self.cache.gate.reading():
            state = self._state()
            size = state.changes.size if state else self.below.committed
            room = room[: max(min(len(room), size - offset), 0)]
            if state is None:
                self.below.read_committed(room, offset)
                return len(room)
            changes = state.changes
            for start, end, where in changes.segments(offset, offset + len(room)):
                part = room[start - offset : end - offset]
                if where == COMMITTED:
                    self._read_committed(part, start, state)
                else:
                    part[:] = bytes(len(part)) if where == HOLE else changes.memory[where : where + len(part)]
            return len(room)

    def _read_committed(self, room: memoryview, offset: int, state: FileState) -> None:
        """Fill *room* with committed bytes: from pages that the inode kept as its own, else from those it may share."""
        store, at, end = self.cache.store, offset, offset + len(room)
        left: list[tuple[int, int]] = []
        with store.lock:  # all of these first: to read others may take their frames
            for kept in state.kept.among(offset // PAGE, -(-end // PAGE)):
                for run in store.find(own_key(self.place, kept.page), kept.pages):
                    page = kept.page + run.page
                    copy_out(room, offset, page, store.memory[run.frame * PAGE : (run.frame + run.pages) * PAGE])
                    store.touch(run)
                    left.append((at, max(page * PAGE, offset)))
                    at = min((page + run.pages) * PAGE, end)
        for start, stop in (*left, (at, end)):
            if start < stop:
                self._read_below(room[start - offset : stop - offset], start)

    def _read_below(self, room: memoryview, offset: int) -> None:
        """Fill *room* with committed bytes, and zeros beyond their end."""
        count = max(min(len(room), self.below.committed - offset), 0)
        self.below.read_committed(room[:count], offset)
        room[count:] = bytes(len(room) - count)

    # Writing

    def write(self, offset: int, data: Buffer) -> int:
        """Write *data* at *offset*; return how many bytes, which are all unless an error came after some.

        Nothing is committed before :meth:`writeback`, unless dirty pages take all the room that they may. Raises
        RefusedError where the file cannot be written to, NoSpaceError when the devices are full: then what is dirty
        stays.
        """
        view = memoryview(data).cast("B")
        check_range(offset, len(view))
        done = 0
        with self.cache.gate.changing():
            while done < len(view):
                try:
                    count = self._changes().write(offset + done, view[done:], self.cache.frames, self._fill)
                    if not count:
                        self.cache.make_room()
                except BtrimgError:
                    if done:
                        break
                    raise
                done += count
        return done

    def _fill(self, room: memoryview, offset: int) -> None:
        self._read_committed(room, offset, self.cache.state_to_write(self))

    def truncate(self, size: int) -> None:
        """Let the file be *size* bytes long; what is new is zeros. Errors are those of :meth:`write`."""
        check_range(size, 0)
        with self.cache.gate.changing():
            self.cache.frames.give_all(self._changes().truncate(size))

    def punch(self, offset: int, length: int) -> None:
        """Make *length* bytes at *offset* zeros, whole pages a hole; the size stays. Errors are those of `write`."""
        end = check_range(offset, length)
        with self.cache.gate.changing():
            size = self._changes().size
            end = min(end, size)
            first, last = -(-offset // PAGE), -(-end // PAGE) if end == size else end // PAGE
            if first < last:
                self._zero(offset, first * PAGE)
                self._zero(last * PAGE, end)
                self.cache.frames.give_all(self._changes().punch(first, last))
            else:
                self._zero(offset, end)

    def _zero(self, start: int, end: int) -> None:
        """Write zeros over bytes [start, end) of a page, if there is something else."""
        if start < end and any(self.read(start, end - start)):
            self.write(start, bytes(end - start))

    def writeback(self, after: str | None = None) -> None:
        """Commit the changes of this file; errors and *after* are those of :meth:`WritableCache.writeback`."""
        self.cache.writeback(self, after=after)

    def _changes(self) -> Changes:
        return self.cache.state_to_write(self).changes

    def _state(self) -> FileState | None:
        return self.cache.state_of(self)


def own_key(place: Place, page: int) -> PageKey:
    """Return the key of a page that is the inode's own."""
    return PageKey(place.subvolume << 8 | INODE, place.inode, page)
