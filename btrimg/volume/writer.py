"""Logical addresses written to every place where they belong: all copies, and the P and Q of their rows."""

from __future__ import annotations

from _thread import allocate_lock  # threading takes 1.3 ms to import

from btrimg.errors import DeviceError
from btrimg.ondisk.constants import STRIPE_LEN, SUPERBLOCK_OFFSETS, SUPERBLOCK_SIZE
from btrimg.ondisk.seal import seal_superblock
from btrimg.volume.chunkmap import Location

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    from typing_extensions import Buffer

    from btrimg.ondisk.superblock import Superblock
    from btrimg.volume.chunkmap import MappedChunk
    from btrimg.volume.volume import Volume

    class Sink(Protocol):
        """Where the bytes of the devices go; the volume that is read must see them at once."""

        def pwrite(self, devid: int, physical: int, data: Buffer) -> None:
            """Write *data* at *physical* of a device; raise DeviceError when that cannot be."""

        def sync(self) -> None:
            """Return when all that was written is durable: before anything that is written later."""


_AT_ONCE = 8 << 20  # bytes whose parity is held in memory


class VolumeWriter:
    """Writes to the devices of *volume* through *sink*.

    A chunk of which a device is missing is not written to at all: a copy that lags behind would be found out by
    checksums alone, and data need not have any. Several threads may write at once, each to places of its own.
    """

    def __init__(self, volume: Volume, sink: Sink) -> None:
        self._volume, self._sink = volume, sink
        self._in_row = allocate_lock()  # two that write to one row would each compute parity without the other's data
        self._whole: MappedChunk | None = None  # the chunk last found to have all its devices

    def write(self, logical: int, data: Buffer) -> None:
        """Write *data* at *logical*, across elements and chunks, to every copy, and P and Q of each row touched.

        The parity of a row that is written in part is computed from what the other columns hold now, unverified.
        Raises CorruptError where no chunk is, DeviceError where a device is missing or cannot be read or written.
        """
        left = memoryview(data).cast("B")
        while left:
            chunk = self._volume.chunk_map.find(logical)
            self._require_devices(chunk)
            piece = left[: chunk.end - logical]
            (self._write_rows if chunk.profile.parity else self._write_copies)(chunk, logical, piece)
            logical, left = logical + len(piece), left[len(piece) :]

    def write_superblock(self, devid: int, superblock: Superblock) -> None:
        """Write *superblock*, whose device item is that of *devid*, to all its places there, the primary last.

        Each copy says where it stands and has its checksum. Raises DeviceError when the device is missing.
        """
        self._require_device(devid)
        end = min(self._volume.devices[devid].size, superblock.dev_item.total_bytes)
        for offset in reversed(SUPERBLOCK_OFFSETS):
            if offset + SUPERBLOCK_SIZE <= end:
                self._sink.pwrite(devid, offset, seal_superblock(superblock.replace(bytenr=offset).pack()))

    def barrier(self) -> None:
        """Return when all that was written is durable."""
        self._sink.sync()

    def _require_devices(self, chunk: MappedChunk) -> None:
        if chunk is not self._whole:
            for stripe in chunk.stripes:
                self._require_device(stripe.devid)
            self._whole = chunk

    def _require_device(self, devid: int) -> None:
        if devid not in self._volume.devices:
            raise DeviceError(f"device {devid} is missing, and nothing is written without it; give it too (-d)")
        if devid in self._volume.seeds:
            raise DeviceError(f"device {devid} is a seed, which is never written to")

    def _write_copies(self, chunk: MappedChunk, logical: int, data: memoryview) -> None:
        while data:
            mapping = chunk.locate(logical)
            piece = data[: mapping.length]
            for devid, physical in mapping.copies:
                self._sink.pwrite(devid, physical, piece)
            logical, data = logical + len(piece), data[len(piece) :]

    def _write_rows(self, chunk: MappedChunk, logical: int, data: memoryview) -> None:
        """Write part of a chunk that has parity: whole rows, many at once, and what is left at either end."""
        row_length = chunk.columns * STRIPE_LEN
        step = max(_AT_ONCE // row_length, 1) * row_length
        while data:
            before = (logical - chunk.logical) % row_length
            if before or len(data) < row_length:
                piece = data[: row_length - before]
                with self._in_row:
                    self._write_in_row(chunk, logical, piece)
            else:
                piece = data[: min(len(data) // row_length * row_length, step)]
                self._write_whole_rows(chunk, logical, piece)
            logical, data = logical + len(piece), data[len(piece) :]

    def _write_whole_rows(self, chunk: MappedChunk, logical: int, data: memoryview) -> None:
        from btrimg.volume.parityrows import parity_of_rows

        columns = chunk.columns
        parity = parity_of_rows(data, columns, STRIPE_LEN, chunk.profile.parity)
        for row in range(len(data) // (columns * STRIPE_LEN)):
            places = chunk.row(logical + row * columns * STRIPE_LEN).places
            for column in range(columns):
                self._sink.pwrite(*places[column], _element(data, row * columns + column))
            for place, elements in zip(places[columns:], parity, strict=True):
                self._sink.pwrite(*place, _element(elements, row))

    def _write_in_row(self, chunk: MappedChunk, logical: int, data: memoryview) -> None:
        """Write part of one row, and its parity at those bytes of the elements that are touched in any of them."""
        from btrimg.volume.parityrows import parity_of_rows

        columns = chunk.columns
        start = (logical - chunk.logical) % (columns * STRIPE_LEN)
        end = start + len(data)
        low, high = start % STRIPE_LEN, (end - 1) % STRIPE_LEN + 1
        if start // STRIPE_LEN != (end - 1) // STRIPE_LEN:
            low, high = 0, STRIPE_LEN
        places = chunk.row(logical - start).places
        row = bytearray()
        writes: list[tuple[Location, memoryview]] = []
        for column, (devid, physical) in enumerate(places[:columns]):
            device, at = self._volume.devices[devid], start - column * STRIPE_LEN
            first = min(max(at, low), high)
            last = max(min(end - column * STRIPE_LEN, high), first)
            piece = data[first - at : last - at]
            row += device.pread(first - low, physical + low)
            row += piece
            row += device.pread(high - last, physical + last)
            if piece:
                writes.append((Location(devid, physical + first), piece))
        parity = parity_of_rows(row, columns, high - low, chunk.profile.parity)
        # Nothing is written before all has been read: an error leaves the row as it was.
        for place, piece in writes:
            self._sink.pwrite(*place, piece)
        for (devid, physical), piece in zip(places[columns:], parity, strict=True):
            self._sink.pwrite(devid, physical + low, piece)


def _element(data: memoryview, number: int) -> memoryview:
    return data[number * STRIPE_LEN : (number + 1) * STRIPE_LEN]
