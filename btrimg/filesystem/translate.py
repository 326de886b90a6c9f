"""File offset -> device offsets: the main job."""

from __future__ import annotations

from btrimg.errors import ChecksumError, NotFoundError
from btrimg.filesystem.extents import COMPRESSION_NAMES, extent_at, past_the_end
from btrimg.named import NamedTuple
from btrimg.ondisk.constants import InodeFlag
from btrimg.units import round_down

TYPE_CHECKING = False
if TYPE_CHECKING:
    from btrimg.filesystem.extents import ExtentRef, FileExtentRow
    from btrimg.filesystem.image import Image
    from btrimg.filesystem.inode import Inode

PAGE_SIZE = 4096  #: of the RFC; x86-64


class Copy(NamedTuple):
    """A place on a device."""

    devid: int
    physical: int
    device: str | None  #: path of the device, None when it is missing
    role: str  #: "data", "mirror N", "P" or "Q"


class Resolution(NamedTuple):
    """Where a byte of a file lies; the fields are those of ``btrimg resolve --json``."""

    path: bytes
    subvolume: int
    inode: int
    offset: int
    kind: str
    compression: str
    extent: ExtentRef | None
    logical: int | None
    length: int  #: bytes contiguous in the file and on every copy from here, to the end of the file at most
    copies: tuple[Copy, ...]
    parity: tuple[Copy, ...]
    csum: bytes | None  #: stored checksum of the sector at logical
    refusal: str | None  #: why a device page may not stand for the file page

    @property
    def shareable(self) -> bool:
        """Return whether a device page may stand for this file page, the RFC's question."""
        return self.refusal is None


def copies_at(image: Image, logical: int) -> tuple[tuple[Copy, ...], tuple[Copy, ...], int]:
    """Return the copies and the parity of *logical*, and how many bytes are contiguous on all of them.

    Raises CorruptError when no chunk maps *logical*.
    """
    mapping = image.volume.chunk_map.locate(logical)
    devices = image.volume.devices

    def copy(devid: int, physical: int, role: str) -> Copy:
        device = devices.get(devid)
        return Copy(devid, physical, device.path if device else None, role)

    mirrored = len(mapping.copies) > 1
    copies = tuple(
        copy(place.devid, place.physical, f"mirror {number}" if mirrored else "data")
        for number, place in enumerate(mapping.copies, 1)
    )
    parity = tuple(copy(place.devid, place.physical, role) for role, place in mapping.parity)
    return copies, parity, mapping.length


def resolve(inode: Inode, offset: int) -> Resolution:
    """Return every place where the byte at file offset *offset* lies.

    For a compressed extent ``logical`` and the copies are those of the start of the compressed bytes. Past the end of
    the file only preallocated space is answered for: the rest of the last sector is no byte of the file. Raises
    NotFoundError there and when *inode* is no regular file, CorruptError when the extent makes no sense.
    """
    if not inode.is_regular:
        raise NotFoundError(f"{inode.quoted} is not a regular file")
    row = extent_at(inode, offset)
    if offset >= inode.item.size and row.kind != "prealloc":
        raise past_the_end(inode, offset)
    skipped = offset - row.offset
    length = row.length - skipped
    extent, logical = row.extent, row.logical
    copies: tuple[Copy, ...] = ()
    parity: tuple[Copy, ...] = ()
    if extent is not None and logical is not None:
        logical += skipped if row.kind != "compressed" else 0
        copies, parity, contiguous = copies_at(inode.image, logical)
        if row.kind != "compressed":
            length = min(length, contiguous)
    if offset < inode.item.size:
        length = min(length, inode.item.size - offset)
    return Resolution(
        inode.path,
        inode.subvolume.id,
        inode.ino,
        offset,
        row.kind,
        COMPRESSION_NAMES[row.compression],
        extent,
        logical,
        length,
        copies,
        parity,
        None if logical is None or row.kind == "prealloc" else _csum(inode, logical),
        refusal(inode, row, logical, offset),
    )


def _csum(inode: Inode, logical: int) -> bytes | None:
    if not inode.checksummed:
        return None
    sectorsize = inode.image.volume.sectorsize
    try:
        return inode.image.csums.lookup(round_down(logical, sectorsize), sectorsize)
    except (ChecksumError, NotFoundError):
        return None


def refusal(inode: Inode, row: FileExtentRow, logical: int | None, offset: int) -> str | None:
    """Return why a device page may not stand for the file page at *offset*, None if it may.

    The RFC's translator refused nodatacow and holes; swapfile activation (fs/btrfs/inode.c
    ``btrfs_swap_activate``) also inline and compressed extents. Preallocated ones would show what the disk held.
    """
    if row.kind != "regular":
        return row.kind
    if inode.item.flags & InodeFlag.NODATACOW:
        return "nodatacow"
    if logical is not None and (logical - offset) % PAGE_SIZE:
        return "unaligned"
    return None
