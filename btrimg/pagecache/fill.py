"""Pages brought in from the devices: straight into frames, and verified there before anybody can find them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from btrimg.errors import BtrimgError, DeviceError
from btrimg.filesystem.columns import COMPRESSED, INLINE, REGULAR
from btrimg.filesystem.data import read_logical
from btrimg.filesystem.inode import Inode
from btrimg.named import NamedTuple
from btrimg.ondisk.compression import decompress
from btrimg.ondisk.constants import CsumType, InodeFlag
from btrimg.ondisk.crcjoin import PIECES, joined
from btrimg.ondisk.csum import crc32c
from btrimg.pagecache.pages import PAGE
from btrimg.units import KIB, round_up
from btrimg.volume.device import Device

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from threading import RLock

    from btrimg.filesystem.image import Image
    from btrimg.pagecache.filerows import FileRows

_FEW_SECTORS = 16  # up to which checksums are computed one by one
_STEP = 256 * KIB  # bytes that are read again at once where some of them were bad


class Stored(NamedTuple):
    """What a file extent row says of where its bytes are."""

    kind: int  #: of KINDS
    offset: int  #: in the file
    logical: int  #: of the row's first byte; of the whole extent, if that is compressed
    length: int  #: bytes of a compressed extent
    skipped: int  #: decompressed bytes before the row's first
    ram_bytes: int
    compression: int
    checked: bool  #: whether there are checksums

    @property
    def plain(self) -> bool:
        """Return whether pages of the file are whole pages of the device, as they are there."""
        return self.kind == REGULAR and (self.logical - self.offset) % PAGE == 0

    @property
    def packed(self) -> bool:
        """Return whether pages of the file are whole pages of a compressed extent, once it is decompressed."""
        return self.kind == COMPRESSED and (self.skipped - self.offset) % PAGE == 0

    def inside(self, page: int) -> int:
        """Return which page of the decompressed extent a page of the file is."""
        return (self.skipped + page * PAGE - self.offset) // PAGE


def stored(rows: FileRows, file: int, row: int) -> Stored | None:
    """Return what one of *rows* says; None where several make up a page, or none does."""
    if row < 0:
        return None
    extents = rows.extents
    kind = int(extents.kind[row])
    return Stored(
        kind,
        int(extents.offset[row]),
        int(extents.logical[row] if kind == REGULAR else extents.extent_logical[row]),
        int(extents.extent_length[row]),
        int(extents.extent_offset[row]),
        int(extents.ram_bytes[row]),
        int(extents.compression[row]),
        not int(rows.files.flags[file]) & InodeFlag.NODATASUM,
    )


class Filler:
    """Reads pages of files of *image*. Trees and checksums are looked at under *lock*, devices are read without.

    With *direct* the devices are read around the kernel's page cache, where they and the file system that they are on
    allow it: then a page is in memory once.
    """

    def __init__(self, image: Image, lock: RLock, *, direct: bool = False) -> None:
        self._image, self._volume, self._lock = image, image.volume, lock
        self._devices: dict[int, Device] = {}
        self._opened: list[Device] = []
        if direct:
            self._open_direct()

    def _open_direct(self) -> None:
        for devid, device in self._volume.devices.items():
            try:
                direct = Device(device.path, direct=True)
            except DeviceError:
                continue
            self._opened.append(direct)
            self._devices[devid] = direct

    def close(self) -> None:
        """Close what was opened."""
        for device in self._opened:
            device.close()

    def pages_into(self, room: memoryview, where: Stored, page: int) -> None:
        """Fill *room* with whole pages of a plain extent, from *page* of the file on.

        Raises ChecksumError or DeviceError when no copy of some sector can be had: *room* is to be thrown away then.
        """
        logical = where.logical + page * PAGE - where.offset
        sectorsize = self._volume.sectorsize
        if logical % sectorsize or len(room) % sectorsize:
            start = logical - logical % sectorsize
            end = logical + len(room)
            with self._lock:
                data = read_logical(self._image, start, end - start + -end % sectorsize, verify=where.checked)
            room[:] = data[logical - start : logical - start + len(room)]
        elif not (self._first_copies_into(room, logical) and self._agrees(room, logical, where)):
            with self._lock:
                room[:] = read_logical(self._image, logical, len(room), verify=where.checked)

    def sectors_into(
        self, room: memoryview, ranges: Iterable[tuple[int, int]], *, checked: bool, again: bool = True
    ) -> list[int]:
        """Fill *room* with whole sectors: ranges (logical address, bytes), one after the other.

        Return which sectors of *room* could be had from no copy, in order; none of those is to be used. Unless *again*,
        only the first copies are looked at.
        """
        ranges = list(ranges)
        size = self._volume.sectorsize
        doubtful: set[int] = set()
        at = 0
        for logical, length in ranges:
            if not self._first_copies_into(room[at : at + length], logical):
                doubtful.update(range(at // size, (at + length) // size))
            at += length
        if checked:
            expected = b"".join(self._expected(ranges, doubtful))
            doubtful.update(self._differing(room[:at], expected))
        return self._again(room, ranges, doubtful, checked=checked) if doubtful and again else sorted(doubtful)

    def _expected(self, ranges: list[tuple[int, int]], doubtful: set[int]) -> Iterator[bytes]:
        """Yield the stored checksums of all *ranges*; what has none is *doubtful*, too."""
        size, at = self._volume.sectorsize, 0
        with self._lock:
            lookup = self._image.csums.lookup
            for logical, length in ranges:
                try:
                    yield lookup(logical, length)
                except BtrimgError:
                    doubtful.update(range(at // size, (at + length) // size))
                    yield bytes(length // size * self._volume.csum.size)
                at += length

    def _again(
        self, room: memoryview, ranges: list[tuple[int, int]], doubtful: set[int], *, checked: bool
    ) -> list[int]:
        """Read *doubtful* sectors from any copy; return those that cannot be had."""
        size = self._volume.sectorsize
        bad: list[int] = []
        at = 0
        for logical, length in ranges:
            for start in range(0, length, _STEP):
                stop = min(start + _STEP, length)
                numbers = range((at + start) // size, (at + stop) // size)
                if not doubtful.isdisjoint(numbers) and not self._reread(
                    room[at + start : at + stop], logical + start, checked=checked
                ):
                    bad += (
                        number
                        for number in numbers
                        if number in doubtful
                        and not self._reread(
                            room[number * size : (number + 1) * size], logical + number * size - at, checked=checked
                        )
                    )
            at += length
        return bad

    def _reread(self, room: memoryview, logical: int, *, checked: bool) -> bool:
        """Fill *room* from copies that are good; return whether there are."""
        try:
            with self._lock:
                room[:] = read_logical(self._image, logical, len(room), verify=checked)
        except BtrimgError:
            return False
        return True

    def _first_copies_into(self, room: memoryview, logical: int) -> bool:
        """Fill *room* from the first copies that are there; return whether they could be read."""
        volume = self._volume
        while room:
            try:
                mapping = volume.chunk_map.locate(logical)
            except BtrimgError:
                return False
            there = (copy for copy in mapping.copies if copy.devid in volume.devices)
            place = next((copy for copy in there if not volume.lag.get(copy.devid)), None)
            if place is None:
                return False
            piece = min(len(room), mapping.length)
            try:
                self._device_into(place.devid, room[:piece], place.physical)
            except DeviceError:
                return False
            room, logical = room[piece:], logical + piece
        return True

    def _device_into(self, devid: int, room: memoryview, physical: int) -> None:
        direct = self._devices.get(devid)
        if direct is not None:
            try:
                direct.pread_into(room, physical)
            except DeviceError:  # it may be the alignment that it minds
                self._devices.pop(devid, None)
            else:
                return
        self._volume.devices[devid].pread_into(room, physical)

    def _agrees(self, room: memoryview, logical: int, where: Stored) -> bool:
        if not where.checked:
            return True
        with self._lock:
            expected = self._image.csums.lookup(logical, len(room))
        return next(self._differing(room, expected), None) is None

    def _differing(self, room: memoryview, expected: bytes) -> Iterator[int]:
        """Yield the sectors of *room* whose checksums are not the *expected* ones."""
        csum, size = self._volume.csum, self._volume.sectorsize
        sectors = len(room) // size
        joins = self._image.superblock.csum_type == CsumType.CRC32C and sectors >= _FEW_SECTORS
        for start in range(0, sectors, PIECES):
            stop = min(start + PIECES, sectors)
            wanted = expected[start * csum.size : stop * csum.size]
            if joins and crc32c(room[start * size : stop * size]) == joined(wanted, size):
                continue
            found = csum.digests([room[at * size : (at + 1) * size] for at in range(start, stop)])
            if found != wanted:
                for at in range(0, len(wanted), csum.size):
                    if found[at : at + csum.size] != wanted[at : at + csum.size]:
                        yield start + at // csum.size

    def decompressed(self, where: Stored) -> bytes:
        """Return all that a compressed extent holds, in whole pages. Errors: also CorruptError for a broken stream."""
        with self._lock:
            packed = read_logical(self._image, where.logical, where.length, verify=where.checked)
        return self.unpacked(where, packed)

    def unpacked(self, where: Stored, packed: bytes | memoryview) -> bytes:
        """Return all that a compressed extent holds, in whole pages, given its bytes as they are stored."""
        plain = decompress(where.compression, packed, where.ram_bytes, self._volume.sectorsize)
        return plain.ljust(round_up(len(plain), PAGE), b"\0")

    def small(self, compression: int, data: bytes | memoryview, length: int) -> bytes:
        """Return inline data that are compressed. Raises CorruptError for a broken stream."""
        return decompress(compression, data, length, self._volume.sectorsize, inline=True)

    def odd(self, rows: FileRows, file: int, row: int, page: int, pages: int) -> bytes:
        """Return whole pages of a file of *rows* that no extent makes up alone; zeros beyond its end.

        *row* is its file extent, if there is one. Inline data are at hand; else the trees are searched.
        """
        number = int(rows.inline_of[file])
        if number >= 0 and row >= 0 and rows.extents.kind[row] == INLINE:
            data, compression = rows.inline.decode(number), int(rows.extents.compression[row])
            plain = self.small(compression, data, int(rows.extents.length[row])) if compression else data
            return plain[page * PAGE : min((page + pages) * PAGE, int(rows.files.size[file]))].ljust(
                pages * PAGE, b"\0"
            )
        subvolume, inode = int(rows.files.subvolume[file]), int(rows.files.inode[file])
        with self._lock:
            found = Inode(self._image, self._image.subvolume(subvolume), inode)
            return found.read(page * PAGE, pages * PAGE).ljust(pages * PAGE, b"\0")

    def as_device(self, devid: int, page: int, pages: int) -> bytes:
        """Return pages of a device as they are there, unverified, as the posted patches do; zeros where it has none."""
        device = self._volume.devices[devid]
        start = page * PAGE
        length = max(min(pages * PAGE, device.size - start), 0)
        return (device.pread(length, start) if length else b"").ljust(pages * PAGE, b"\0")
