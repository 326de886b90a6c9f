"""A file whose committed bytes are read through a page store, under a scheme of sharing.

It looks up extents and keys of one inode, anew after each commit, and can compare pages before it shares them.
:mod:`handle` has its keys of columns of all files, which say how things stood when the cache was opened, and reads
ahead, lets threads wait for each other's pages, and counts for whom. What both do to pages is in :mod:`store`.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING

from btrimg.filesystem.data import row_bytes
from btrimg.named import NamedTuple
from btrimg.pagecache import filerows
from btrimg.pagecache.pages import PAGE, REFUSALS, Place
from btrimg.pagecache.schemes import INODE, KIND_MASK, NONE, SCHEMES
from btrimg.pagecache.store import PageKey
from btrimg.units import MIB

if TYPE_CHECKING:
    from btrimg.filesystem.inode import Inode
    from btrimg.pagecache.dirty import PageRun
    from btrimg.pagecache.pages import KeyRuns
    from btrimg.pagecache.schemes import Domains, Scheme
    from btrimg.pagecache.store import PageStore

_AT_ONCE = MIB // PAGE  # pages that are read from the devices at once
_ZEROS = frozenset(map(REFUSALS.index, ("hole", "prealloc")))


class StoredFile:
    """One regular file as it is committed. What is read is verified, whole pages, and kept in *store* as it allows.

    Raises CorruptError when the inode cannot be read.
    """

    def __init__(self, store: PageStore, inode: Inode, scheme: Scheme, domains: Domains) -> None:
        self.store, self.inode = store, inode
        self.place = Place(int(inode.subvolume.id), inode.ino)
        self._how = scheme, domains
        self.look_up()

    def look_up(self) -> None:
        """Find extents and keys of the pages."""
        scheme, domains = self._how
        rows = filerows.of_inode(self.inode)
        self._runs = _Runs(scheme.keys(rows, domains))
        # Equal checksums are no proof: pages found by content are compared once with what the file's extent holds.
        self._identities = _Runs(SCHEMES["extent"].keys(rows, domains)) if scheme.name == "content" else None
        self._rows = list(self.inode.extents(holes=True))
        self._offsets = [row.offset for row in self._rows]
        self.committed = self.inode.item.size  #: bytes

    def keys(self, start: int, end: int) -> list[KeyedRun]:
        """Return the runs of pages [start, end) of the file."""
        return self._runs.among(start, end)

    def read_committed(self, room: memoryview, offset: int) -> None:
        """Fill *room* with bytes from *offset* on, which the file has.

        Raises ChecksumError or DeviceError for what cannot be had; nothing of it is kept.
        """
        end = offset + len(room)
        for page, pages, key, zeros in self.keys(offset // PAGE, -(-end // PAGE)) if room else ():
            if zeros:
                first, last = max(page * PAGE, offset), min((page + pages) * PAGE, end)
                room[first - offset : last - offset] = bytes(last - first)
                continue
            if self._identities and key.space & KIND_MASK not in (INODE, NONE):
                for part in self._identities.among(page, page + pages):
                    self._read_alike(room, offset, part, key.plus(part.page - page))
                continue
            at = 0
            for run in self._copy(room, offset, page, pages, key):
                self._fetch(room, offset, page + at, run.page - at, key.plus(at))
                at = run.end
            self._fetch(room, offset, page + at, pages - at, key.plus(at))

    def _read_alike(self, room: memoryview, offset: int, run: KeyedRun, by_content: PageKey) -> None:
        """Fill *room* from pages with keys by content: from any page that was compared, or else from what is read."""
        for at in range(run.pages):
            key, identity = by_content.plus(at), run.key.plus(at)
            known = self.store.is_alike(key, identity)
            if not self._copy(room, offset, run.page + at, 1, key if known else identity):
                with self.store.filling:
                    data = memoryview(self._read_pages(run.page + at, 1))
                copy_out(room, offset, run.page + at, data)
                self._admit_alike(data, key, identity)

    def _admit_alike(self, data: memoryview, key: PageKey, identity: PageKey) -> None:
        """Let a page that was read be found by its content, unless there is another one with the same checksum."""
        store = self.store
        own = identity.space & KIND_MASK == INODE  # says nothing of its bytes
        with store.lock:
            store.misses += 1
            found = [] if own else store.find(key, 1)
            alike = bool(found) and store.memory[found[0].frame * PAGE : (found[0].frame + 1) * PAGE] == data
            for frames in () if alike else store.take_frames(1):
                store.memory[frames.start * PAGE : frames.stop * PAGE] = data
                alike = not own and not store.find(key, 1)  # to take a frame may have taken the other page's
                store.admit(key if alike else identity, frames)
            if alike:
                store.know_alike(key, identity)

    def _copy(self, room: memoryview, offset: int, page: int, pages: int, key: PageKey) -> list[PageRun]:
        """Copy those of *pages* that are in the store into *room*; return which they were."""
        store = self.store
        with store.lock:
            found = store.find(key, pages)
            for run in found:
                copy_out(room, offset, page + run.page, store.memory[run.frame * PAGE : (run.frame + run.pages) * PAGE])
                store.touch(run)
        return found

    def _fetch(self, room: memoryview, offset: int, page: int, pages: int, key: PageKey) -> None:
        """Read pages that are not in the store, and admit as many as it has room for."""
        store = self.store
        for at in range(0, pages, _AT_ONCE):
            count = min(_AT_ONCE, pages - at)
            with store.filling:
                data = self._read_pages(page + at, count)
            copy_out(room, offset, page + at, memoryview(data))
            with store.lock:
                store.misses += count
                done = 0
                for frames in store.take_frames(count):
                    store.memory[frames.start * PAGE : frames.stop * PAGE] = data[
                        done * PAGE : (done + len(frames)) * PAGE
                    ]
                    store.admit(key.plus(at + done), frames)
                    done += len(frames)

    def _read_pages(self, page: int, pages: int) -> bytes:
        """Return whole pages of the file, also what extents hold behind its end: others may share it."""
        start, end = page * PAGE, (page + pages) * PAGE
        parts: list[bytes] = []
        at = start
        number = max(bisect_right(self._offsets, start) - 1, 0)
        for row in self._rows[number:]:
            first, last = max(row.offset, start), min(row.end, end)
            if row.offset >= end:
                break
            if first < last:
                data = row_bytes(self.inode.image, row, first, last, verify=self.inode.checksummed)
                parts += (bytes(first - at), data)
                at = last
        parts.append(bytes(end - at))
        return b"".join(parts)


class KeyedRun(NamedTuple):
    """Pages of a file that have keys which follow each other."""

    page: int
    pages: int
    key: PageKey
    zeros: bool  #: whether all of them are, by the extents


class _Runs:
    """The keys of a file's pages, found by page."""

    def __init__(self, keys: KeyRuns) -> None:
        self._pages = keys.page.tolist()
        columns = (keys.pages, keys.space, keys.unit, keys.number, keys.refusal)
        self._runs = list(zip(*(column.tolist() for column in columns), strict=True))

    def among(self, start: int, end: int) -> list[KeyedRun]:
        """Return the runs of pages [start, end)."""
        found = []
        at = max(bisect_right(self._pages, start) - 1, 0)
        while at < len(self._pages) and self._pages[at] < end:
            (pages, space, unit, number, refusal), page = self._runs[at], self._pages[at]
            first, last = max(page, start), min(page + pages, end)
            if first < last:
                key = PageKey(space, unit, number + first - page)
                found.append(KeyedRun(first, last - first, key, refusal in _ZEROS))
            at += 1
        return found


def copy_out(room: memoryview, offset: int, page: int, data: memoryview) -> None:
    """Copy the part of *data*, which is what a file has from *page* on, that *room* is for, from *offset* on."""
    first, last = max(page * PAGE, offset), min(page * PAGE + len(data), offset + len(room))
    if first < last:
        room[first - offset : last - offset] = data[first - page * PAGE : last - page * PAGE]
