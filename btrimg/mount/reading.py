"""File data for the kernel: verified, read around the page cache, straight into memory that is handed on."""

from __future__ import annotations

import mmap
import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, NamedTuple

from btrimg.errors import BtrimgError, CorruptError
from btrimg.filesystem.data import read_logical, row_bytes
from btrimg.filesystem.extents import file_extents
from btrimg.units import MIB, round_down, round_up
from btrimg.volume.around import AroundCache

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from btrimg.filesystem.extents import FileExtentRow
    from btrimg.filesystem.image import Image
    from btrimg.filesystem.inode import Inode

_PLAIN_EXTENTS = 64  #: decompressed extents that are kept, 128 KiB each at most: several reads fall into one


class _Piece(NamedTuple):
    """A part of a logical range that lies side by side on the device of its first copy."""

    devid: int
    physical: int
    length: int


def nobody_stops() -> None:
    """Let a read go on."""


class Reader:
    """Reads files of an image, in several threads at once; *lock* is held while trees are searched."""

    def __init__(self, image: Image, lock: threading.Lock) -> None:
        self.image, self._lock = image, lock
        self._devices = AroundCache(image.volume)
        self._memory = threading.local()
        self._plain: OrderedDict[tuple[int, int, int], bytes] = OrderedDict()

    def close(self) -> None:
        """Close the devices."""
        self._devices.close()

    def read(self, inode: Inode, offset: int, length: int, check: Callable[[], None] = nobody_stops) -> memoryview:
        """Return file bytes [offset, offset + length), fewer at the end, in memory that the next call overwrites.

        *check* is asked before every extent, and raises what is to end the read. Raises ChecksumError, DeviceError
        or CorruptError when the bytes cannot be had.
        """
        with self._lock:
            end = min(offset + length, inode.item.size)
            rows = list(_rows(inode, offset, end)) if offset < end else []
        sectorsize = self.image.volume.sectorsize
        base = round_down(offset, sectorsize)
        memory = self._memory_of("file", round_up(max(end, offset), sectorsize) - base)
        cursor = base
        for row in rows:
            check()
            first, last = max(row.offset, base), min(row.end, end)
            if first > cursor:
                memory[cursor - base : first - base] = bytes(first - cursor)
            self._put(inode, row, first, last, memory[first - base :])
            cursor = last
        if cursor < end:
            memory[cursor - base : end - base] = bytes(end - cursor)
        return memory[offset - base : max(end, offset) - base]

    def _put(self, inode: Inode, row: FileExtentRow, first: int, last: int, target: memoryview) -> None:
        """Put file bytes [first, last) of *row* at the start of *target*; what is no whole sector may be put whole."""
        if row.kind == "regular" and row.logical is not None:
            length = round_up(last - first, self.image.volume.sectorsize)
            self._fetch(row.logical + first - row.offset, target[:length], verify=inode.checksummed)
        elif row.kind == "compressed":
            plain = self._decompressed(row, verify=inode.checksummed)
            target[: last - first] = plain[first - row.offset : last - row.offset]
        else:
            target[: last - first] = row_bytes(self.image, row, first, last, verify=False)

    def _decompressed(self, row: FileExtentRow, *, verify: bool) -> bytes:
        """Return the part of a compressed extent that *row* uses."""
        from btrimg.ondisk.compression import decompress

        extent = row.extent
        if extent is None:
            raise CorruptError(f"the compressed row at {row.offset} has no extent")
        key = (extent.logical, extent.generation, extent.ram_bytes)
        plain = self._plain.get(key)
        if plain is None:
            stored = self._memory_of("stored", extent.length)
            self._fetch(extent.logical, stored, verify=verify)
            plain = decompress(row.compression, bytes(stored), extent.ram_bytes, self.image.volume.sectorsize)
            with self._lock:
                self._plain[key] = plain
                if len(self._plain) > _PLAIN_EXTENTS:
                    self._plain.popitem(last=False)
        return plain[extent.offset : extent.offset + row.length]

    def _fetch(self, logical: int, target: memoryview, *, verify: bool) -> None:
        """Fill *target*, whole sectors, with the data at *logical*; from another copy when the first is bad."""
        length, volume = len(target), self.image.volume
        try:
            with self._lock:
                expected = self.image.csums.lookup(logical, length) if verify else b""
                pieces = list(self._pieces(logical, length))
            at = 0
            for piece in pieces:
                self._devices.read_into(piece.devid, target[at : at + piece.length], piece.physical)
                at += piece.length
            size = volume.sectorsize
            if not verify or volume.csum.digests(target[i : i + size] for i in range(0, length, size)) == expected:
                return
        except BtrimgError:
            pass  # of the slow way it is known which sector is bad
        with self._lock:
            for at in range(0, length, MIB):
                step = min(MIB, length - at)
                target[at : at + step] = read_logical(self.image, logical + at, step, verify=verify)

    def _pieces(self, logical: int, length: int) -> Iterator[_Piece]:
        chunks, end = self.image.volume.chunk_map, logical + length
        while logical < end:
            mapping = chunks.locate(logical)
            step = min(mapping.length, end - logical)
            yield _Piece(*mapping.copies[0], step)
            logical += step

    def _memory_of(self, name: str, size: int) -> memoryview:
        """Return *size* bytes of this thread's memory of that *name*, which starts at a page."""
        memory: memoryview | None = getattr(self._memory, name, None)
        if memory is None or len(memory) < size:
            memory = memoryview(mmap.mmap(-1, round_up(max(size, 2 * MIB), mmap.PAGESIZE)))
            setattr(self._memory, name, memory)
        return memory[:size]


def _rows(inode: Inode, start: int, end: int) -> Iterator[FileExtentRow]:
    """Yield the file extents that have bytes in [start, end), without those that read as zeros."""
    for row in file_extents(inode, start):
        if row.offset >= end:
            return
        if row.kind not in ("hole", "prealloc"):
            yield row
