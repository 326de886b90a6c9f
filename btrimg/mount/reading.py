"""File data for the kernel: verified, read around the page cache, straight into memory that is handed on."""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from typing import TYPE_CHECKING

import numpy as np

from btrimg.errors import BtrimgError, CorruptError, DeviceError, NotFoundError
from btrimg.filesystem.csums import Csums
from btrimg.filesystem.data import read_logical, row_bytes
from btrimg.filesystem.extents import row_of_item
from btrimg.ondisk.blocks import Key
from btrimg.ondisk.constants import CsumType, ItemType, TreeId
from btrimg.ondisk.crcjoin import PIECES, join, joined
from btrimg.ondisk.csum import crc32c
from btrimg.trees.near import near
from btrimg.units import KIB, MIB, round_down, round_up
from btrimg.volume.around import AroundCache, direct_memory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from btrimg.filesystem.extents import FileExtentRow
    from btrimg.filesystem.image import Image
    from btrimg.mount.tree import FileData

_PLAIN_EXTENTS = 64  #: decompressed extents that are kept, 128 KiB each at most: several reads fall into one
_FEW_SECTORS = 16  #: up to which checksums are computed one by one
_MEMORY = 2 * MIB  #: of each thread; a READ asks for 1 MiB at most, and whole sectors are read
_LONG = 64 * KIB  #: who reads so much at once, is expected to go on
_RUN, _LONGEST = 16 * MIB, 64 * MIB  #: how far that is looked up: at first, and for who did go on
_RUNS = 64  #: that are remembered; the checksums of the longest take 64 KiB


def nobody_stops() -> None:
    """Let a read go on."""


class Memory:
    """Memory of one thread, from the start of a page on, and its sectors."""

    def __init__(self, size: int, sectorsize: int) -> None:
        self.bytes = direct_memory(size)
        self.sectors = [self.bytes[at : at + sectorsize] for at in range(0, len(self.bytes), sectorsize)]


class Run:
    """A part of a file that lies side by side on a device, looked up for who reads one piece of it after the other."""

    __slots__ = ("devid", "end", "fill", "first", "physical", "pieces", "step", "sums")

    def __init__(self, first: int, end: int, devid: int, physical: int, sums: bytes, step: int) -> None:
        self.first, self.end = first, end  #: file offsets; the first is that of a sector
        self.devid, self.physical = devid, physical  #: where the first byte is
        self.sums = sums  #: the checksums of all its sectors, none if the file has none
        self.step = step  #: bytes of each piece
        self.pieces: list[int] = []  #: the CRC-32C of each piece, if it is made of those of the sectors
        self.fill: Callable[[list[memoryview], int], int] = _nothing  #: what reads the device, if there are pieces


def _nothing(_buffers: list[memoryview], _physical: int) -> int:
    return 0


class _Memories(threading.local):
    """The memory of each thread."""

    def __init__(self) -> None:
        self.named: dict[str, Memory] = {}  #: by what it is for
        self.pieces: dict[int, list[memoryview]] = {}  #: for a piece, by its length: as a list, for ``Run.fill``


class Reader:
    """Reads files of an image, in several threads at once; *lock* is held while trees are searched.

    What most requests are of who reads a large file has a way of its own: one piece of a run, whole. The data that go
    by have left nothing else in the processor's caches, so that every function and every object costs time.
    """

    def __init__(self, image: Image, lock: threading.RLock) -> None:
        self.image, self._lock = image, lock
        self._devices = AroundCache(image.volume)
        self._memories = _Memories()
        self._plain: OrderedDict[tuple[int, int, int], bytes] = OrderedDict()
        self._csums: Csums | None = None
        self._running: deque[FileData] = deque()  # files with a run
        if image.superblock.csum_type == CsumType.CRC32C:
            joined(bytes(4), image.volume.sectorsize)  # which makes its tables, for all processes that will read

    def close(self) -> None:
        """Close the devices."""
        self._devices.close()

    def read(self, file: FileData, offset: int, length: int, check: Callable[[], None] = nobody_stops) -> memoryview:
        """Return file bytes [offset, offset + length), fewer at the end, in memory that the next call overwrites.

        *check* is called before every extent, but not for what is expected and most quickly had; it raises what is to
        end the read. Raises ChecksumError, DeviceError or CorruptError when the bytes cannot be had.
        """
        run = file.run
        if run is not None and length == run.step:
            place, rest = divmod(offset - run.first, length)
            room = self._memories.pieces.get(length)
            if room and not rest and 0 <= place < len(run.pieces):
                try:
                    count = run.fill(room, run.physical + offset - run.first)
                except OSError:
                    count = 0
                if count == length and crc32c(room[0]) == run.pieces[place]:
                    return room[0]
        end = min(offset + length, file.size)
        if run is not None and run.first <= offset < end <= run.end:
            check()
            found = self._read_on(run, offset, end)
            if found is not None:
                return found
        with self._lock:
            rows = list(_rows(file, offset, end)) if offset < end else []
        base = round_down(offset, self.image.volume.sectorsize)
        memory = self._memory_of("file", max(end, offset) - base)
        whole = memory.bytes
        cursor = base
        for row in rows:
            check()
            first, last = max(row.offset, base), min(row.end, end)
            if first > cursor:
                whole[cursor - base : first - base] = bytes(first - cursor)
            self._put(file, row, first, last, memory, first - base)
            cursor = last
        if cursor < end:
            whole[cursor - base : end - base] = bytes(end - cursor)
        if end - offset == length >= _LONG and rows and rows[-1].end > end:
            self._expect(file, rows[-1], end, length)
        return whole[offset - base : max(end, offset) - base]

    def _read_on(self, run: Run, offset: int, end: int) -> memoryview | None:
        """Return file bytes [offset, end), which are in *run*; None when they cannot be read or are not right."""
        size = self.image.volume.sectorsize
        at = round_down(offset - run.first, size)
        length = round_up(end - run.first - at, size)
        memory = self._memory_of("file", length)
        whole = memory.bytes[:length]
        try:
            self._devices.read_into(run.devid, whole, run.physical + at)
        except DeviceError:
            return None
        width = self.image.volume.csum.size
        sums = run.sums[at // size * width : (at + length) // size * width]
        right = not sums or self._agrees(memory, 0, length, sums)
        return whole[offset - run.first - at : end - run.first - at] if right else None

    def _expect(self, file: FileData, row: FileExtentRow, first: int, step: int) -> None:
        """Look up what is in *row* of a file from offset *first* on, for who is expected to go on there."""
        before = file.run
        goes_on = before is not None and before.first < first <= before.end + _RUN
        file.run = self._run(file, row, first, step, _LONGEST if goes_on else _RUN)
        with self._lock:
            if before is None and file.run is not None:
                self._running.append(file)
            if len(self._running) > _RUNS:
                self._running.popleft().run = None

    def _run(self, file: FileData, row: FileExtentRow, first: int, step: int, reach: int) -> Run | None:
        """Return what *row* has of the next *reach* bytes of a file from *first* on, if it lies side by side."""
        size = self.image.volume.sectorsize
        end = min(row.end, file.size, first + reach)
        if row.kind != "regular" or row.logical is None or first % size:
            return None
        logical, length = row.logical + first - row.offset, round_up(end - first, size)
        with self._lock:
            try:
                devid, physical, length = next(self._pieces(logical, length))
                if length < step:  # stripes, or the end is near
                    return None
                sums = self._stored_csums().lookup(logical, length) if file.checksummed else b""
            except BtrimgError:
                return None
        run = Run(first, min(end, first + length), devid, physical, sums, step)
        fill = self._devices.filling(devid)
        if fill and sums and self.image.superblock.csum_type == CsumType.CRC32C and not step % size:
            # At once: between two pieces of data caches lose what it takes, and to join one takes five times as long.
            whole = np.frombuffer(sums, "<u4")[: length // step * (step // size)]
            if len(whole):
                run.fill, run.pieces = fill, join(whole.reshape(-1, step // size).astype(np.uint32), size).tolist()
                self._memories.pieces[step] = [self._memory_of("file", step).bytes[:step]]
        return run

    def _put(self, file: FileData, row: FileExtentRow, first: int, last: int, memory: Memory, at: int) -> None:
        """Put file bytes [first, last) of *row* at *at* of the memory; what is no whole sector may be put whole."""
        if row.kind == "regular" and row.logical is not None:
            length = round_up(last - first, self.image.volume.sectorsize)
            self._fetch(row.logical + first - row.offset, length, memory, at, verify=file.checksummed)
        elif row.kind == "compressed":
            plain = self._decompressed(row, verify=file.checksummed)
            memory.bytes[at : at + last - first] = plain[first - row.offset : last - row.offset]
        else:
            memory.bytes[at : at + last - first] = row_bytes(self.image, row, first, last, verify=False)

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
            self._fetch(extent.logical, extent.length, stored, 0, verify=verify)
            sectorsize = self.image.volume.sectorsize
            plain = decompress(row.compression, bytes(stored.bytes[: extent.length]), extent.ram_bytes, sectorsize)
            with self._lock:
                self._plain[key] = plain
                if len(self._plain) > _PLAIN_EXTENTS:
                    self._plain.popitem(last=False)
        return plain[extent.offset : extent.offset + row.length]

    def _fetch(self, logical: int, length: int, memory: Memory, at: int, *, verify: bool) -> None:
        """Put data at *logical*, whole sectors, at *at* of the memory; from another copy when the first is bad."""
        try:
            with self._lock:
                expected = self._stored_csums().lookup(logical, length) if verify else b""
                pieces = list(self._pieces(logical, length))
            cursor = at
            for devid, physical, step in pieces:
                self._devices.read_into(devid, memory.bytes[cursor : cursor + step], physical)
                cursor += step
            if not verify or self._agrees(memory, at, cursor, expected):
                return
        except BtrimgError:
            pass  # of the slow way it is known which sector is bad
        with self._lock:
            for done in range(0, length, MIB):
                step = min(MIB, length - done)
                good = read_logical(self.image, logical + done, step, verify=verify)
                memory.bytes[at + done : at + done + step] = good

    def _agrees(self, memory: Memory, at: int, end: int, expected: bytes) -> bool:
        """Return whether the sectors in [at, end) of the memory have the *expected* checksums."""
        csum, size = self.image.volume.csum, self.image.volume.sectorsize
        first, last = at // size, end // size
        if last - first < _FEW_SECTORS or self.image.superblock.csum_type != CsumType.CRC32C:
            return csum.digests(memory.sectors[first:last]) == expected
        return all(
            crc32c(memory.bytes[start * size : min(start + PIECES, last) * size])
            == joined(expected[(start - first) * csum.size : (start + PIECES - first) * csum.size], size)
            for start in range(first, last, PIECES)
        )

    def _stored_csums(self) -> Csums:
        if self._csums is None:
            volume = self.image.volume
            try:
                tree = self.image.tree(TreeId.CSUM_TREE)
            except NotFoundError as error:
                raise CorruptError(str(error)) from None
            self._csums = Csums(near(tree), volume.csum.size, volume.sectorsize)
        return self._csums

    def _pieces(self, logical: int, length: int) -> Iterator[tuple[int, int, int]]:
        """Yield (devid, physical, length) of the first copy of each part of a range that lies side by side."""
        chunks, end = self.image.volume.chunk_map, logical + length
        while logical < end:
            chunk = chunks.find(logical)
            if chunk.striped:
                mapping = chunk.locate(logical)
                copies: Iterable[tuple[int, int]] = mapping.copies
                step = min(mapping.length, end - logical)
            else:  # which is quicker than to locate, and the usual case
                copies = [(stripe.devid, stripe.offset + logical - chunk.logical) for stripe in chunk.stripes]
                step = min(chunk.end, end) - logical
            devid, physical = next(filter(self._is_fresh, copies), (0, 0))
            if not devid:
                raise DeviceError("no copy lies on a device that is there and was never away")
            yield devid, physical, step
            logical += step

    def _is_fresh(self, place: tuple[int, int]) -> bool:
        volume = self.image.volume
        return place[0] in volume.devices and not volume.lag.get(place[0])

    def _memory_of(self, name: str, size: int) -> Memory:
        """Return memory of this thread, of that *name*, with room for *size* bytes in whole sectors."""
        memory = self._memories.named.get(name)
        sectorsize = self.image.volume.sectorsize
        if memory is None or len(memory.bytes) < size + sectorsize:
            memory = self._memories.named[name] = Memory(max(size + sectorsize, _MEMORY), sectorsize)
        return memory


def _rows(file: FileData, start: int, end: int) -> Iterator[FileExtentRow]:
    """Yield the file extents that have bytes in [start, end), without those that read as zeros.

    Raises CorruptError when one begins before the last one ends.
    """
    first = Key(file.ino, ItemType.EXTENT_DATA, start)
    if start:
        before = file.tree.floor(first)
        if before and before[0][:2] == first[:2]:
            first = before[0]
    cursor = 0
    for key, payload in file.tree.items(first, Key(file.ino, ItemType.EXTENT_DATA, end - 1)):
        row = row_of_item(key, payload)
        if row.offset < cursor:
            raise CorruptError(f"inode {file.ino}: file extents overlap at {row.offset}")
        cursor = row.end
        if row.end > start and row.kind not in ("hole", "prealloc"):
            yield row
