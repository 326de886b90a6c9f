"""Changes of files committed: one transaction for all that is written back at once, and the image read anew after it.

A commit that fails before it ends leaves the image in its last state, and the changes where they are.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from btrimg.errors import DeviceError, RefusedError
from btrimg.ondisk.constants import Compression, RootFlag
from btrimg.pagecache.dirty import HOLE
from btrimg.pagecache.pages import PAGE
from btrimg.units import MIB
from btrimg.write import contents, inodes
from btrimg.write.begin import begin
from btrimg.write.data import DataSink
from btrimg.write.fileextents import Storage
from btrimg.write.files import Files
from btrimg.write.inline import MAX_INLINE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from btrimg.filesystem.image import Image
    from btrimg.ondisk.inodes import Timespec
    from btrimg.pagecache.dirty import Changes
    from btrimg.volume.writer import Sink
    from btrimg.write.transaction import Transaction

_PIECE = 16 * MIB  # bytes written at once, which are in memory twice meanwhile


class Session:
    """A transaction under way: the files of each subvolume, and how their data are stored."""

    def __init__(self, txn: Transaction, storage: Storage) -> None:
        self.txn, self.storage = txn, storage
        self._files: dict[int, Files] = {}

    def files(self, subvolume: int) -> Files:
        """Return the files of a subvolume, to be changed.

        Raises NotFoundError when there is none, RefusedError when it is read-only.
        """
        if self.txn.root_item(subvolume).flags & RootFlag.SUBVOL_RDONLY:
            raise RefusedError(f"subvolume {subvolume} is read-only: its files cannot change; take a snapshot of it")
        return self.source(subvolume)

    def source(self, subvolume: int) -> Files:
        """Return the files of a subvolume that are only read, as those of a read-only one may be."""
        if subvolume not in self._files:
            self._files[subvolume] = Files(self.txn, subvolume)
        return self._files[subvolume]

    def forget(self, subvolume: int) -> None:
        """Forget the files of a subvolume that is gone."""
        self._files.pop(subvolume, None)

    def apply(self, subvolume: int, ino: int, changes: Changes) -> None:
        """Make *changes* those of a file; errors are those of :mod:`btrimg.write.contents`."""
        files, storage = self.files(subvolume), self.storage
        if changes.cut < changes.committed:
            contents.truncate(files, ino, changes.cut, storage)
        for run in changes.map:
            if run.frame == HOLE and run.page * PAGE < changes.cut:
                contents.punch(files, ino, run.page * PAGE, run.pages * PAGE, storage)
        for offset, data in pieces(changes):
            contents.write(files, ino, offset, data, storage)
        if inodes.read(files, ino).size != changes.size:
            contents.truncate(files, ino, changes.size, storage)


def pieces(changes: Changes) -> Iterator[tuple[int, bytes]]:
    """Yield the dirty bytes of a file with their offsets, in order; neighbours as one, but not too many."""
    parts: list[memoryview] = []
    start = end = 0
    for run in changes.map:
        first, last = run.page * PAGE, min(run.end * PAGE, changes.size)
        if run.frame == HOLE or first >= last:
            continue
        if parts and first != end:
            yield start, b"".join(parts)
            parts = []
        at = run.frame * PAGE
        while first < last:
            start = start if parts else first
            end = min(last, start + _PIECE)
            parts.append(changes.memory[at : at + end - first])
            at, first = at + end - first, end
            if end == start + _PIECE:
                yield start, b"".join(parts)
                parts = []
    if parts:
        yield start, b"".join(parts)


class Committer:
    """The transactions of an image that is written to, one after the other (context manager).

    *clock* says the time of each commit, *uuids* gives new uuids. What is written is stored with *compression*, and
    inline up to *max_inline* bytes. Opening raises what :func:`btrimg.write.begin.begin` does.
    """

    def __init__(
        self,
        image: Image,
        sink: Sink,
        *,
        clock: Callable[[], Timespec],
        uuids: Callable[[], bytes],
        compression: int = Compression.NONE,
        level: int | None = None,
        max_inline: int = MAX_INLINE,
    ) -> None:
        self.image = image
        self._sink, self._clock, self._uuids = sink, clock, uuids
        self._how = compression, level, max_inline
        self._session: Session | None = None
        self._data: DataSink | None = None
        self._freed: list[tuple[int, int]] = []
        self._broken = ""  # why nothing can be written any more
        self._begin()

    def close(self) -> None:
        """Forget what is not committed; the image stays open."""
        if self._data:
            self._data.close()
        self._session = self._data = None

    @contextmanager
    def session(self, freed: list[tuple[int, int]]) -> Iterator[Session]:
        """Give the transaction under way; the end of the block commits it, and the image is as it says.

        *freed* then has (logical, length) of the extents of data that nobody uses any more. What the block or the
        commit raises leaves the image as it was; after a DeviceError of the commit nobody knows how much was written,
        and every later one raises DeviceError.
        """
        if self._broken:
            raise DeviceError(f"nothing more can be written: {self._broken}; open the image again")
        session = self._session or self._begin()
        txn = session.txn
        txn.now = self._clock()
        try:
            yield session
        except BaseException:
            self._abandon()
            raise
        try:
            txn.commit()
        except BaseException as error:
            if isinstance(error, DeviceError) or not isinstance(error, Exception):
                self._broken = str(error) or "a commit was interrupted"
            self._abandon()
            raise
        self.image.follow(txn.superblock)
        freed += self._freed
        self._freed.clear()

    def _begin(self) -> Session:
        compression, level, max_inline = self._how
        txn = begin(self.image, self._sink, now=self._clock(), uuids=self._uuids)
        self._freed.clear()
        txn.data_freed.append(lambda logical, length: self._freed.append((logical, length)))
        self._data = DataSink(txn)
        self._session = Session(txn, Storage(self._data, compression, level, max_inline))
        return self._session

    def _abandon(self) -> None:
        """Give up the transaction: what it allocated is free again, and the chunks that it made were never there."""
        self.close()
        self.image.follow(self.image.superblock)
