"""Pages brought in from the devices: straight into frames, and verified there before anybody can find them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from btrimg.errors import DeviceError
from btrimg.filesystem.columns import COMPRESSED, REGULAR
from btrimg.filesystem.data import read_logical
from btrimg.filesystem.inode import Inode
from btrimg.ondisk.compression import decompress
from btrimg.ondisk.constants import InodeFlag
from btrimg.pagecache.pages import PAGE
from btrimg.volume.device import Device

if TYPE_CHECKING:
    from threading import RLock

    from btrimg.filesystem.image import Image
    from btrimg.pagecache.filerows import FileRows


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

    def _first_copies_into(self, room: memoryview, logical: int) -> bool:
        """Fill *room* from the first copies; return whether they could be read."""
        volume = self._volume
        while room:
            mapping = volume.chunk_map.locate(logical)
            devid, physical = mapping.copies[0]
            device = self._devices.get(devid) or volume.devices.get(devid)
            if device is None or volume.lag.get(devid):
                return False
            piece = min(len(room), mapping.length)
            try:
                device.pread_into(room[:piece], physical)
            except DeviceError:
                self._devices.pop(devid, None)  # it may be the alignment that it minds
                return False
            room, logical = room[piece:], logical + piece
        return True

    def _agrees(self, room: memoryview, logical: int, where: Stored) -> bool:
        if not where.checked:
            return True
        volume = self._volume
        size = volume.sectorsize
        with self._lock:
            expected = self._image.csums.lookup(logical, len(room))
        return volume.csum.digests([room[at : at + size] for at in range(0, len(room), size)]) == expected

    def decompressed(self, where: Stored) -> bytes:
        """Return all that a compressed extent holds, in whole pages. Errors: also CorruptError for a broken stream."""
        with self._lock:
            packed = read_logical(self._image, where.logical, where.length, verify=where.checked)
        plain = decompress(where.compression, packed, where.ram_bytes, self._volume.sectorsize)
        return plain.ljust(-(-len(plain) // PAGE) * PAGE, b"\0")

    def odd(self, subvolume: int, inode: int, page: int, pages: int) -> bytes:
        """Return whole pages of a file that no extent makes up alone; zeros beyond its end."""
        with self._lock:
            file = Inode(self._image, self._image.subvolume(subvolume), inode)
            return file.read(page * PAGE, pages * PAGE).ljust(pages * PAGE, b"\0")

    def as_device(self, devid: int, page: int, pages: int) -> bytes:
        """Return pages of a device as they are there, unverified, as the posted patches do; zeros where it has none."""
        device = self._volume.devices[devid]
        start = page * PAGE
        length = max(min(pages * PAGE, device.size - start), 0)
        return (device.pread(length, start) if length else b"").ljust(pages * PAGE, b"\0")
