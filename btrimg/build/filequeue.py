"""Regular files on their way into a subvolume: their data stored, compressed ahead of that by other threads."""

from __future__ import annotations

from collections import deque

from btrimg.build.entries import PIECE
from btrimg.build.imported import create, inode_item
from btrimg.named import NamedTuple
from btrimg.ondisk.blocks import Key
from btrimg.ondisk.constants import MAX_COMPRESSED, FileExtentType, InodeFlag, ItemType
from btrimg.ondisk.extents import FileExtent, FileExtentInline
from btrimg.units import MIB
from btrimg.write import fileextents
from btrimg.write.encode import AT_ONCE
from btrimg.write.fileextents import placed
from btrimg.write.inline import most_inline

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from concurrent.futures import Future

    from btrimg.build.entries import Entry, Pieces
    from btrimg.build.values import Compression
    from btrimg.write.data import DataSink
    from btrimg.write.encode import Prepared
    from btrimg.write.fileextents import Piece
    from btrimg.write.files import Files

_pack_extent, _pack_inline = FileExtent.STRUCT.pack, FileExtentInline.STRUCT.pack
_EXTENT_DATA, _INODE_ITEM = int(ItemType.EXTENT_DATA), int(ItemType.INODE_ITEM)
_REGULAR, _INLINE = int(FileExtentType.REGULAR), int(FileExtentType.INLINE)
_TOGETHER = 4 * MIB  # bytes of small files that are stored at once
_AHEAD = 8 * MIB  # bytes of data that are being compressed, or were and are not yet stored


class _File(NamedTuple):
    """A file of which some of the data is stored."""

    ino: int
    entry: Entry
    pieces: list[Piece]


class _Batch:
    """Small files that are compressed together."""

    __slots__ = ("compression", "contents", "files", "size")

    def __init__(self, compression: Compression) -> None:
        self.compression = compression
        self.files: list[tuple[int, Entry]] = []
        self.contents: list[bytes] = []
        self.size = 0  #: bytes of contents


class FileQueue:
    """Makes regular files of *files* with inode *flags*, in the order in which they come; names are the caller's."""

    def __init__(self, files: Files, sink: DataSink, flags: int) -> None:
        self._files, self._sink, self._flags = files, sink, flags
        self._nodatasum = bool(flags & InodeFlag.NODATASUM)
        self._most_inline = most_inline(files.txn.volume)
        # in the order in which they came; Prepared is None behind the last data of a file
        self._waiting: deque[tuple[_Batch, Future[list[bytes | None]]] | tuple[_File, int, Prepared | None]] = deque()
        self._batch: _Batch | None = None  # that comes behind them, once there is enough of it
        self._small: list[tuple[int, Entry, bytes]] = []  # that will be stored together
        self._bytes = 0  # that wait

    def add(self, ino: int, entry: Entry, compression: Compression) -> None:
        """Make inode *ino* of *entry*, with all its data; its items may be there after `drain` only."""
        pieces = entry.pieces
        small = isinstance(pieces, tuple) and not self._sink.sharing
        if compression.kind and small and entry.size <= MAX_COMPRESSED:
            self._gather(ino, entry, _content(pieces), compression)
        elif compression.kind:
            self._prepare(_File(ino, entry, []), compression)
        elif small:
            self._small.append((ino, entry, _content(pieces)))
            self._bytes += entry.size
            if self._bytes > _TOGETHER:
                self.drain()
        else:
            self.drain()
            file = _File(ino, entry, [])
            self._store(file)
            self._finish(file)

    def drain(self) -> None:
        """Finish all files."""
        self._begin_batch()
        while self._waiting:
            self._pop()
        if self._small:
            self._store_small()
        self._bytes = 0

    # Small files that are not compressed

    def _store_small(self) -> None:
        """Put the items of many small files with little more than is needed for each: most files are such."""
        small, limit = self._small, self._most_inline
        self._small = []
        items: list[tuple[Key, bytes]] = []
        generation, flags = self._files.generation, self._flags
        placed_runs = iter(
            self._sink.store_all([data for *_, data in small if len(data) > limit], nodatasum=self._nodatasum)
        )
        for ino, entry, data in small:
            size = nbytes = len(data)
            if size > limit:
                nbytes = 0
                for logical, length in next(placed_runs):
                    item = _pack_extent(generation, length, 0, 0, 0, _REGULAR, logical, length, 0, length)
                    items.append((Key(ino, _EXTENT_DATA, nbytes), item))
                    nbytes += length
            elif size:
                items.append((Key(ino, _EXTENT_DATA, 0), _pack_inline(generation, size, 0, 0, 0, _INLINE) + data))
            if entry.xattrs:
                self._put_inode(ino, entry, size, nbytes)
            else:
                items.append((Key(ino, _INODE_ITEM, 0), inode_item(entry, generation, flags, size, nbytes)))
        self._files.tree.put_all(items)

    def _put_inode(self, ino: int, entry: Entry, size: int, nbytes: int) -> None:
        files = self._files
        if entry.xattrs:
            create(files, ino, entry, flags=self._flags, size=size, nbytes=nbytes)
        else:
            files.tree.put(Key(ino, _INODE_ITEM, 0), inode_item(entry, files.generation, self._flags, size, nbytes))

    # Small files that are compressed

    def _gather(self, ino: int, entry: Entry, data: bytes, compression: Compression) -> None:
        """Add a file to those that are compressed next, which are begun once they are enough for a thread."""
        batch = self._batch
        if batch is None or batch.compression != compression:
            self._begin_batch()
            batch = self._batch = _Batch(compression)
        batch.files.append((ino, entry))
        batch.contents.append(data)
        batch.size += len(data)
        self._bytes += len(data)
        if batch.size >= AT_ONCE:
            self._begin_batch()
            while self._bytes > _AHEAD:
                self._pop()

    def _begin_batch(self) -> None:
        batch, self._batch = self._batch, None
        if batch:
            kind, level = batch.compression.kind, batch.compression.level
            self._waiting.append((batch, self._sink.prepare_all(batch.contents, kind, level)))

    def _store_batch(self, batch: _Batch, streams: list[bytes | None]) -> None:
        self._bytes -= batch.size
        put = self._files.tree.put
        stored = self._sink.store_encoded(zip(batch.contents, streams, strict=True), batch.compression.kind)
        for (ino, entry), data, extents in zip(batch.files, batch.contents, stored, strict=True):
            nbytes = 0
            for extent in extents:
                put(Key(ino, _EXTENT_DATA, nbytes), extent.pack())
                nbytes += extent.ram_bytes
            self._put_inode(ino, entry, len(data), nbytes)

    # Others

    def _prepare(self, file: _File, compression: Compression) -> None:
        self._begin_batch()
        for offset, data in file.entry.pieces:
            self._waiting.append((file, offset, self._sink.prepare(data, compression.kind, compression.level)))
            self._bytes += len(data)
            while self._bytes > _AHEAD:
                self._pop()
        self._waiting.append((file, 0, None))

    def _pop(self) -> None:
        first = self._waiting.popleft()
        if len(first) == 2:
            self._store_batch(first[0], first[1].result())
            return
        file, offset, data = first
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
        create(self._files, file.ino, entry, flags=self._flags, size=entry.size, nbytes=nbytes)

    def _store(self, file: _File) -> None:
        entry, sink = file.entry, self._sink
        if entry.dense and entry.size > PIECE:
            extents = sink.stream(_Reader(entry.pieces).read, entry.size, nodatasum=self._nodatasum)
            file.pieces.extend(placed(extents, 0))
            return
        for offset, data in entry.pieces:
            if len(data) == entry.size and (inline := sink.inline(data)):
                file.pieces.append((0, inline))
            else:
                file.pieces.extend(placed(sink.store(data, nodatasum=self._nodatasum), offset))


def _content(pieces: Pieces) -> bytes:
    """Return the bytes of a file that are there in one piece, or none."""
    return next(iter(pieces), (0, b""))[1]


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
