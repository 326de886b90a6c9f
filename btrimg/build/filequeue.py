"""Regular files on their way into a subvolume: their data stored, compressed ahead of that by other threads."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from btrimg.build.imported import create
from btrimg.ondisk.constants import InodeFlag
from btrimg.units import MIB
from btrimg.write import fileextents
from btrimg.write.fileextents import placed
from btrimg.write.inline import most_inline

if TYPE_CHECKING:
    from collections.abc import Iterator

    from btrimg.build.entries import Entry, Pieces
    from btrimg.build.values import Compression
    from btrimg.write.data import DataSink
    from btrimg.write.encode import Prepared
    from btrimg.write.fileextents import Piece
    from btrimg.write.files import Files

_NODATASUM = int(InodeFlag.NODATASUM)
_AHEAD = 8 * MIB  # bytes of data that are being compressed, or were and are not yet stored


class _File(NamedTuple):
    """A file of which some of the data is stored."""

    ino: int
    entry: Entry
    flags: int
    pieces: list[Piece]


class FileQueue:
    """Makes regular files of *files*, in the order in which they come; names are the caller's."""

    def __init__(self, files: Files, sink: DataSink) -> None:
        self._files, self._sink = files, sink
        self._most_inline = most_inline(files.txn.volume)
        self._waiting: deque[tuple[_File, int, Prepared | None]] = deque()  # None behind the last data of a file
        self._bytes = 0  # that wait

    def add(self, ino: int, entry: Entry, flags: int, compression: Compression) -> None:
        """Make inode *ino* of *entry*, with all its data; its item may be there after `drain` only."""
        file = _File(ino, entry, flags, [])
        if not compression.kind:
            self.drain()
            self._store_plain(file)
            self._finish(file)
            return
        for offset, data in entry.pieces:
            self._waiting.append((file, offset, self._sink.prepare(data, compression.kind, compression.level)))
            self._bytes += len(data)
            while self._bytes > _AHEAD:
                self._pop()
        self._waiting.append((file, 0, None))

    def drain(self) -> None:
        """Finish all files."""
        while self._waiting:
            self._pop()

    def _pop(self) -> None:
        file, offset, data = self._waiting.popleft()
        if data is None:
            self._finish(file)
            return
        self._bytes -= len(data.data)
        if len(data.data) == file.entry.size:
            inline = self._sink.inline(data)
            if inline:
                file.pieces.append((0, inline))
                return
        file.pieces.extend(placed(self._sink.store(data), offset))

    def _finish(self, file: _File) -> None:
        entry = file.entry
        nbytes = fileextents.lay(self._files, file.ino, entry.size, file.pieces)
        create(self._files, file.ino, entry, flags=file.flags, size=entry.size, nbytes=nbytes)

    def _store_plain(self, file: _File) -> None:
        entry, sink = file.entry, self._sink
        nodatasum = bool(file.flags & _NODATASUM)
        if entry.dense and entry.size and not isinstance(entry.pieces, tuple):
            extents = sink.stream(_Reader(entry.pieces).read, entry.size, nodatasum=nodatasum)
            file.pieces.extend(placed(extents, 0))
            return
        for offset, data in entry.pieces:
            if len(data) == entry.size <= self._most_inline and (inline := sink.inline(data)):
                file.pieces.append((0, inline))
            else:
                file.pieces.extend(placed(sink.store(data, nodatasum=nodatasum), offset))


class _Reader:
    """Pieces of content without holes, read in other portions."""

    def __init__(self, pieces: Pieces) -> None:
        self._pieces: Iterator[tuple[int, bytes]] = iter(pieces)
        self._rest = b""

    def read(self, size: int) -> bytes:
        """Return the next *size* bytes; fewer only where they end."""
        parts = [self._rest]
        missing = size - len(self._rest)
        while missing > 0:
            piece = next(self._pieces, None)
            if piece is None:
                break
            parts.append(piece[1])
            missing -= len(piece[1])
        data = b"".join(parts)
        self._rest = data[size:]
        return data[:size]
