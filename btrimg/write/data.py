"""File data stored: space for them taken, compressed where that pays, checksummed and written in large pieces.

Whoever stores gets the file extents back, as the records that their items hold; where in which file they go is not
known here. Tails are filled up with zeros to whole sectors, as the kernel does.
"""

from __future__ import annotations

from itertools import pairwise

from btrimg.errors import BtrimgError
from btrimg.ondisk.constants import Compression, FileExtentType, Incompat
from btrimg.ondisk.extents import FileExtent, FileExtentInline
from btrimg.units import MIB, round_up
from btrimg.write.behind import WriteBehind
from btrimg.write.encode import Encoder, Prepared, pays
from btrimg.write.inline import MAX_INLINE, most_inline
from btrimg.write.space import Run

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from concurrent.futures import Future
    from typing import TypeAlias

    from typing_extensions import Buffer

    from btrimg.write.dedupe import Dedupe
    from btrimg.write.transaction import Transaction

    Extent: TypeAlias = FileExtent | FileExtentInline

LONGEST = 128 * MIB  #: bytes of the longest extent of plain data (fs/btrfs/fs.h ``BTRFS_MAX_EXTENT_SIZE``)
PIECE = 4 * MIB  #: bytes that are read and held at once
# What the superblock has to say of compressed data; zlib is part of the format.
_INCOMPAT = {int(Compression.LZO): int(Incompat.COMPRESS_LZO), int(Compression.ZSTD): int(Incompat.COMPRESS_ZSTD)}
_REGULAR, _INLINE = int(FileExtentType.REGULAR), int(FileExtentType.INLINE)


class DataSink:
    """Stores file data for a transaction. Nothing is sure to be on the devices before `flush`, which a commit calls.

    Everywhere, *compression* is a `Compression` and *level* that of `btrimg.ondisk.compression.compress`. Data that are
    given must not be changed before `flush`.
    """

    def __init__(self, txn: Transaction) -> None:
        self._txn = txn
        self._sectorsize = txn.volume.sectorsize
        self._behind = WriteBehind(txn.volume, txn.writer, txn.csums)
        self._encoder = Encoder(self._sectorsize)
        self._dedupe: Dedupe | None = None
        txn.before_commit.append(self.flush)
        self.sharing = False  #: whether equal data are stored once: those that come while this is set

    def prepare(self, data: bytes | memoryview, compression: int, level: int | None = None) -> Prepared:
        """Begin to compress *data* in other threads, for who has more to do before they are stored, or many to store.

        How many are prepared and not yet stored, and so kept in memory, is the caller's affair.
        """
        return self._encoder.prepare(data, compression, level)

    def inline(
        self,
        data: bytes | memoryview | Prepared,
        *,
        compression: int = Compression.NONE,
        level: int | None = None,
        max_inline: int = MAX_INLINE,
    ) -> FileExtentInline | None:
        """Return the inline extent of a file that is *data* and nothing else, None if it has to be stored outside.

        *max_inline* is the limit in bytes that a mount can set. Empty files have no extent either.
        """
        plain = data.data if isinstance(data, Prepared) else data
        if not 0 < len(plain) <= self._sectorsize:
            return None
        if isinstance(data, Prepared):
            compression, stream = data.kind, data.streams[0]() if data.streams else None
        else:
            stream = self._encoder.encode(memoryview(data), compression, level) if compression else None
        if len(plain if stream is None else stream) > most_inline(self._txn.volume, max_inline):
            return None
        if stream is None:
            return FileExtentInline(self._txn.generation, len(plain), 0, 0, 0, _INLINE, bytes(plain))
        _declare(self._txn, compression)
        return FileExtentInline(self._txn.generation, len(plain), compression, 0, 0, _INLINE, stream)

    def store(
        self,
        data: bytes | memoryview | Prepared,
        *,
        compression: int = Compression.NONE,
        level: int | None = None,
        nodatasum: bool = False,
        at: int | None = None,
        pieces: int = 1,
    ) -> list[FileExtent]:
        """Store *data* and return their file extents in order; empty ones have none.

        Data without checksums (*nodatasum*) are neither compressed, as in the kernel, nor shared. *at* is the logical
        address wanted for the first byte, the rest follows. *pieces* is the number of extents wanted, as equal as whole
        sectors allow; there are more where data are compressed, or where one does not fit into any run of free space.
        What is prepared is stored so, in one piece. Raises NoSpaceError.
        """
        usual = at is None and pieces == 1 and not compression and not self.sharing
        if usual and type(data) is bytes and len(data) <= PIECE:
            return self._store_whole(data, nodatasum=nodatasum)
        if isinstance(data, Prepared):
            placing = self._placing(at, pieces, nodatasum=nodatasum)
            placing.prepared(data)
            return placing.extents
        view = memoryview(data).cast("B")
        taken = 0

        def read(size: int) -> memoryview:
            nonlocal taken
            taken += size
            return view[taken - size : taken]

        return self.stream(
            read, len(view), compression=compression, level=level, nodatasum=nodatasum, at=at, pieces=pieces
        )

    def _store_whole(self, data: bytes, *, nodatasum: bool) -> list[FileExtent]:
        """Store data with nothing special about them, as most files are: what `_Placing` does, in half the time."""
        txn, extents, done = self._txn, [], 0
        for logical, length in txn.space.allocate_data(round_up(len(data), self._sectorsize)):
            txn.refs.new_data_extent(logical, length)
            self._behind.append(logical, data[done : done + length], length, summed=not nodatasum)
            extents.append(FileExtent(txn.generation, length, 0, 0, 0, _REGULAR, logical, length, 0, length))
            done += length
        return extents

    def store_all(self, contents: Sequence[bytes], *, nodatasum: bool = False) -> list[list[Run]]:
        """Store many small contents side by side, as they are; return where each one lies, of all its sectors.

        Space is taken for all of them at once, so that one is split where free space is. Nothing is shared. Raises
        NoSpaceError.
        """
        txn, step = self._txn, self._sectorsize
        sizes = [round_up(len(content), step) for content in contents]
        runs = iter(txn.space.allocate_data(sum(sizes)))
        placed: list[list[Run]] = []
        logical = left = 0
        for content, size in zip(contents, sizes, strict=True):
            pieces: list[Run] = []
            done = 0
            while done < size:
                if not left:
                    logical, left = next(runs)
                length = min(size - done, left)
                txn.refs.new_data_extent(logical, length)
                self._behind.append(logical, content[done : done + length], length, summed=not nodatasum)
                pieces.append(Run(logical, length))
                logical, left, done = logical + length, left - length, done + length
            placed.append(pieces)
        return placed

    def prepare_all(self, contents: Sequence[bytes], compression: int, level: int | None) -> Future[list[bytes | None]]:
        """Begin to compress many small contents in another thread, for `store_encoded`; else as `prepare`."""
        return self._encoder.prepare_all(contents, compression, level)

    def store_encoded(self, contents: Iterable[tuple[bytes, bytes | None]], compression: int) -> list[list[Extent]]:
        """Store many small contents, each with its stream or None, side by side; return the extents of each.

        They are what `inline` and `store` would give, but nothing is shared. Raises NoSpaceError.
        """
        generation, sectorsize, limit = self._txn.generation, self._sectorsize, most_inline(self._txn.volume)
        made: list[list[Extent]] = []
        outside: list[tuple[list[Extent], bytes, bytes | None]] = []
        compressed = False
        for data, stream in contents:
            extents: list[Extent] = []
            made.append(extents)
            size, stored = len(data), data if stream is None else stream
            if size > sectorsize or len(stored) > limit:
                if stream is not None and not pays(size, len(stream), sectorsize):
                    stream = None
                outside.append((extents, data, stream))
            elif size:
                kind = 0 if stream is None else compression
                extents.append(FileExtentInline(generation, size, kind, 0, 0, _INLINE, stored))
            compressed = compressed or stream is not None
        if compressed:
            _declare(self._txn, compression)
        self._store_outside(outside, compression)
        return made

    def _store_outside(self, contents: list[tuple[list[Extent], bytes, bytes | None]], compression: int) -> None:
        """Store contents, as they are where they have no stream, and add their extents to the list of each."""
        txn, step, generation = self._txn, self._sectorsize, self._txn.generation
        sizes = [round_up(len(data if stream is None else stream), step) for _, data, stream in contents]
        runs = txn.space.allocate_data(sum(sizes))
        if len(runs) > 1:  # a stream would be cut
            for run in runs:
                txn.space.give_back(*run)
            for extents, data, stream in contents:
                extents += self._store_one(data, stream, compression)
            return
        logical = runs[0].logical if runs else 0
        for (extents, data, stream), length in zip(contents, sizes, strict=True):
            stored, kind = (data, 0) if stream is None else (stream, compression)
            ram_bytes = round_up(len(data), step)
            txn.refs.new_data_extent(logical, length)
            self._behind.append(logical, stored, length, summed=True)
            extents.append(FileExtent(generation, ram_bytes, kind, 0, 0, _REGULAR, logical, length, 0, ram_bytes))
            logical += length

    def _store_one(self, data: bytes, stream: bytes | None, compression: int) -> list[FileExtent]:
        if stream is None:
            return self._store_whole(data, nodatasum=False)
        placing = _Placing(self._txn, self._behind, None, summed=True)
        placing.compressed(memoryview(data), stream, compression)
        return placing.extents

    def stream(
        self,
        read: Callable[[int], Buffer],
        length: int,
        *,
        compression: int = Compression.NONE,
        level: int | None = None,
        nodatasum: bool = False,
        at: int | None = None,
        pieces: int = 1,
    ) -> list[FileExtent]:
        """Store *length* bytes of data that *read* gives piece by piece; else as `store`.

        *read* gets a number of bytes, at most 4 MiB, and returns as many of the next ones. Raises BtrimgError when it
        returns fewer.
        """
        placing = self._placing(at, pieces, nodatasum=nodatasum)
        for size in shares(length, pieces, self._sectorsize):
            if compression and not nodatasum:
                for batch in self._batches(read, size, compression, level):
                    placing.prepared(batch)
            else:
                placing.stream(read, size)
        return placing.extents

    def preallocate(self, length: int, *, at: int | None = None, pieces: int = 1) -> list[FileExtent]:
        """Take space for *length* bytes, up to whole sectors, without writing; else as `store`."""
        placing = _Placing(self._txn, self._behind, at, summed=False)
        for size in shares(length, pieces, self._sectorsize):
            for run in placing.take(size):
                placing.add(run, FileExtentType.PREALLOC)
        return placing.extents

    def _placing(self, at: int | None, pieces: int, *, nodatasum: bool) -> _Placing:
        if not self.sharing or nodatasum or at is not None or pieces > 1:
            return _Placing(self._txn, self._behind, at, summed=not nodatasum)
        if self._dedupe is None:
            from btrimg.write.dedupe import Dedupe

            self._dedupe = Dedupe(self._txn, self._behind.settle)
        return _Placing(self._txn, self._behind, at, summed=True, dedupe=self._dedupe)

    def flush(self) -> None:
        """Return when all data are written and their checksums known: before somebody else reads them."""
        self._behind.flush()

    def close(self) -> None:
        """Forget what is not yet written; nothing can be stored afterwards."""
        self._txn.before_commit.remove(self.flush)
        self._encoder.close()
        self._behind.close()

    def _batches(
        self, read: Callable[[int], Buffer], length: int, compression: int, level: int | None
    ) -> Iterator[Prepared]:
        """Yield data in batches; the next one is being compressed already."""
        before: Prepared | None = None
        for done in range(0, length, PIECE):
            after = self._encoder.prepare(_read(read, min(PIECE, length - done)), compression, level)
            if before:
                yield before
            before = after
        if before:
            yield before


class _Placing:
    """Data on their way to extents, one after the other; *at* is where the next one shall begin, None for anywhere."""

    def __init__(
        self, txn: Transaction, behind: WriteBehind, at: int | None, *, summed: bool, dedupe: Dedupe | None = None
    ) -> None:
        self._txn, self._behind, self._at, self._summed, self._dedupe = txn, behind, at, summed, dedupe
        self._sectorsize = txn.volume.sectorsize
        self.extents: list[FileExtent] = []

    def take(self, length: int) -> Sequence[Run]:
        """Take space for *length* bytes, up to whole sectors."""
        runs = self._txn.space.allocate_data(round_up(length, self._sectorsize), longest=LONGEST, at=self._at)
        if self._at is not None:
            self._at = runs[-1].logical + runs[-1].length
        return runs

    def add(
        self, run: Run, kind: FileExtentType = FileExtentType.REGULAR, ram_bytes: int = 0, compression: int = 0
    ) -> None:
        """Let *run* be an extent, and a file extent that is all of it."""
        logical, length = run.logical, run.length
        ram_bytes = ram_bytes or length
        self._txn.refs.new_data_extent(logical, length)
        generation = self._txn.generation
        self.extents.append(FileExtent(generation, ram_bytes, compression, 0, 0, kind, logical, length, 0, ram_bytes))

    def plain(self, data: memoryview) -> None:
        """Store *data*, which are in memory, as they are."""
        if data and self._dedupe:
            self._dedupe.place(data, self._stored, self.extents.append)
        elif data:
            self._stored(data)

    def _stored(self, data: memoryview) -> list[FileExtent]:
        before = len(self.extents)
        self._fill(self.take(len(data)), data)
        return self.extents[before:]

    def _fill(self, runs: Sequence[Run], data: memoryview) -> None:
        for run in runs:
            self.add(run)
            self._behind.append(run.logical, data[: run.length], run.length, summed=self._summed)
            data = data[run.length :]

    def stream(self, read: Callable[[int], Buffer], length: int) -> None:
        """Store *length* bytes that *read* gives as they are."""
        if self._dedupe:
            for done in range(0, length, PIECE):
                self.plain(_read(read, min(PIECE, length - done)))
            return
        for run in self.take(length):
            self.add(run)
            for done in range(0, run.length, PIECE):
                size = min(PIECE, run.length - done)
                data = _read(read, min(size, length))
                self._behind.append(run.logical + done, data, size, summed=self._summed)
                length -= len(data)

    def prepared(self, data: Prepared) -> None:
        """Store *data* compressed where that saves a sector, unless they are to have no checksums."""
        if not self._summed:
            self.plain(data.data)
            return
        for chunk, stream in data.parts(self._sectorsize):
            if stream is None:
                self.plain(chunk)
            else:
                self.compressed(chunk, stream, data.kind)

    def compressed(self, chunk: memoryview, stream: bytes, kind: int) -> None:
        """Store the *stream* of a *chunk*, or that as it is where there is no room for the stream in one piece."""
        if self._dedupe and (known := self._dedupe.chunk(chunk, kind)):
            self.extents.append(known)
            return
        runs = self.take(len(stream))
        if len(runs) == 1:
            _declare(self._txn, kind)
            self.add(runs[0], ram_bytes=round_up(len(chunk), self._sectorsize), compression=kind)
            self._behind.append(runs[0].logical, stream, runs[0].length, summed=True)
            if self._dedupe:
                self._dedupe.learn_chunk(chunk, self.extents[-1])
            return
        # A compressed extent cannot be split. As fs/btrfs/inode.c ``submit_one_async_extent``: then plainly.
        room = sum(run.length for run in runs)
        self._fill(runs, chunk[:room])
        self.plain(chunk[room:])


def _declare(txn: Transaction, compression: int) -> None:
    """Have the superblock say that there are data compressed so."""
    bit = _INCOMPAT.get(compression, 0)
    if bit & ~txn.superblock.incompat_flags:
        txn.set_incompat(bit)


def _read(read: Callable[[int], Buffer], size: int) -> memoryview:
    data = memoryview(read(size)).cast("B")
    if len(data) != size:
        raise BtrimgError(f"the data end early: {len(data)} bytes came where {size} were due")
    return data


def shares(length: int, pieces: int, sectorsize: int) -> Iterator[int]:
    """Yield the bytes of each of *pieces* shares of *length* bytes, as equal as whole sectors allow, none empty."""
    sectors = -(-length // sectorsize)
    pieces = min(pieces, sectors)
    ends = [min(sectors * number // pieces * sectorsize, length) for number in range(1, pieces + 1)]
    yield from (end - start for start, end in pairwise([0, *ends]))
