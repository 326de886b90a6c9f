"""File data stored: space for them taken, compressed where that pays, checksummed and written in large pieces.

Whoever stores gets the file extents back, as the records that their items hold; where in which file they go is not
known here. Tails are filled up with zeros to whole sectors, as the kernel does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from btrimg.errors import BtrimgError
from btrimg.ondisk.constants import Compression, FileExtentType
from btrimg.ondisk.extents import FileExtent
from btrimg.units import MIB, round_up
from btrimg.write.behind import WriteBehind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from typing_extensions import Buffer

    from btrimg.volume.volume import Volume
    from btrimg.write.behind import Writer
    from btrimg.write.csums import PendingCsums

    class Run(Protocol):
        """A piece of free space that was taken."""

        @property
        def logical(self) -> int: ...  # noqa: D102
        @property
        def length(self) -> int: ...  # noqa: D102

    class Allocator(Protocol):
        """Who gives out space for data."""

        def allocate_data(self, length: int, *, longest: int, at: int | None) -> Sequence[Run]:
            """Take *length* bytes of space, in as few runs as possible, none above *longest* bytes."""

    class References(Protocol):
        """Who counts the references of extents."""

        def new_data_extent(self, logical: int, length: int) -> None:
            """Learn that an extent is new."""

    class Engine(Protocol):
        """What a transaction has that is needed here."""

        @property
        def volume(self) -> Volume: ...  # noqa: D102
        @property
        def space(self) -> Allocator: ...  # noqa: D102
        @property
        def writer(self) -> Writer: ...  # noqa: D102
        @property
        def refs(self) -> References: ...  # noqa: D102
        @property
        def csums(self) -> PendingCsums: ...  # noqa: D102
        @property
        def generation(self) -> int: ...  # noqa: D102


LONGEST = 128 * MIB  #: bytes of the longest extent of plain data (fs/btrfs/fs.h ``BTRFS_MAX_EXTENT_SIZE``)
_PIECE = 4 * MIB  # bytes that are read and held at once


class DataSink:
    """Stores file data for a transaction. Of what it writes nothing is sure to be on the devices before `flush`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._behind = WriteBehind(engine.volume, engine.writer, engine.csums)

    def store(
        self,
        data: Buffer,
        *,
        compression: int = Compression.NONE,
        level: int | None = None,
        nodatasum: bool = False,
        at: int | None = None,
        pieces: int = 1,
    ) -> list[FileExtent]:
        """Store *data*, which must not be changed before `flush`, and return its file extents in order.

        *compression* is a `Compression`, *level* that of `compress`; as in the kernel, data without checksums
        (*nodatasum*) are not compressed. *at* is the logical address wanted for the first byte, the rest follows.
        *pieces* is the number of extents wanted, as equal as whole sectors allow; compressed, and where there is no
        room for one in a piece, there are more. Empty data have no extents. Raises NoSpaceError.
        """
        view = memoryview(data).cast("B")
        taken = 0

        def read(size: int) -> memoryview:
            nonlocal taken
            taken += size
            return view[taken - size : taken]

        return self.stream(
            read, len(view), compression=compression, level=level, nodatasum=nodatasum, at=at, pieces=pieces
        )

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

        *read* gets a number of bytes, at most 4 MiB, and returns as many of the next ones, which must not be changed
        before `flush`. Raises BtrimgError when it returns fewer.
        """
        extents: list[FileExtent] = []
        for size in shares(length, pieces, self._engine.volume.sectorsize):
            extents += self._plain(read, size, at=at, nodatasum=nodatasum)
            at = at and extents[-1].disk_bytenr + extents[-1].disk_num_bytes
        return extents

    def preallocate(self, length: int, *, at: int | None = None, pieces: int = 1) -> list[FileExtent]:
        """Take space for *length* bytes, up to whole sectors, without writing; else as `store`."""
        extents: list[FileExtent] = []
        for size in shares(length, pieces, self._engine.volume.sectorsize):
            extents += self._allocate(size, at, FileExtentType.PREALLOC)
            at = at and extents[-1].disk_bytenr + extents[-1].disk_num_bytes
        return extents

    def flush(self) -> None:
        """Return when all data are written and their checksums known: before they are read, and before a commit."""
        self._behind.flush()

    def close(self) -> None:
        """Forget what is not yet written; nothing can be stored afterwards."""
        self._behind.close()

    def _plain(
        self, read: Callable[[int], Buffer], length: int, *, at: int | None, nodatasum: bool
    ) -> list[FileExtent]:
        extents = self._allocate(length, at, FileExtentType.REGULAR)
        for extent in extents:
            for done in range(0, extent.num_bytes, _PIECE):
                size = min(_PIECE, extent.num_bytes - done)
                wanted = min(size, length)
                data = read(wanted)
                if memoryview(data).nbytes != wanted:
                    raise BtrimgError(f"the data end {length - memoryview(data).nbytes} bytes early")
                self._behind.append(extent.disk_bytenr + done, data, size, summed=not nodatasum)
                length -= wanted
        return extents

    def _allocate(self, length: int, at: int | None, kind: FileExtentType) -> list[FileExtent]:
        engine = self._engine
        whole = round_up(length, engine.volume.sectorsize)
        extents = []
        for run in engine.space.allocate_data(whole, longest=LONGEST, at=at):
            logical, size = run.logical, run.length
            engine.refs.new_data_extent(logical, size)
            extents.append(FileExtent(engine.generation, size, 0, 0, 0, kind, logical, size, 0, size))
        return extents


def shares(length: int, pieces: int, sectorsize: int) -> Iterator[int]:
    """Yield the bytes of each of *pieces* shares of *length* bytes, as equal as whole sectors allow, none empty."""
    sectors = -(-length // sectorsize)
    for number in range(min(pieces, sectors)):
        end = sectors * (number + 1) // min(pieces, sectors) * sectorsize
        yield min(end, length) - sectors * number // min(pieces, sectors) * sectorsize
