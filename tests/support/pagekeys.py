"""Which pages are one under a scheme, page by page, as slowly as can be: the judge of the columns of pagecache.

Nothing here is of btrimg.pagecache: a page's identity is a plain tuple, put together from what the inode and the chunk
map say. Pages of holes are left out, for there are files of terabytes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from btrimg.errors import BtrimgError
from btrimg.filesystem.walk import walk
from btrimg.ondisk.constants import InodeFlag

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from btrimg.filesystem.extents import FileExtentRow
    from btrimg.filesystem.image import Image
    from btrimg.filesystem.inode import Inode

PAGE = 4096

Where = tuple[int, int, int]  # subvolume, inode, page


class Known(NamedTuple):
    """What there is to say of a page under one scheme."""

    refusal: str
    identity: Any  #: equal for pages that are one


def regular_files(image: Image) -> list[Inode]:
    """Return every regular file of every subvolume once."""
    found: dict[tuple[int, int], Inode] = {}
    for subvolume in image.subvolumes():
        for inode in walk(image.open(b"/", subvolume=subvolume.id)):
            if not inode.is_placeholder and inode.is_regular:
                found.setdefault((inode.subvolume.id, inode.ino), inode)
    return [found[key] for key in sorted(found)]


def all_pages(image: Image, scheme: str, domain: Callable[[int], Any] = lambda _: 0) -> dict[Where, Known]:
    """Return what is known of every page that is not of a hole."""
    found: dict[Where, Known] = {}
    for inode in regular_files(image):
        known = _Whole(inode) if scheme == "whole-file" else None
        for page, row in pages_of(inode):
            own = (inode.subvolume.id, inode.ino, page)
            refusal, identity = known.page(page) if known else _page(inode, row, page, scheme)
            shared = identity is not None and not refusal
            found[own] = Known(refusal, ("shared", domain(own[0]), identity) if shared else ("own", *own))
    return found


def pages_of(inode: Inode) -> Iterator[tuple[int, FileExtentRow]]:
    """Yield the pages of a file that are of no hole, each with the row that holds its first byte."""
    sector = inode.image.volume.sectorsize
    for row in inode.extents(holes=True):
        end = -(-row.end // sector) * sector if row.kind == "inline" else row.end
        if row.kind != "hole":
            for page in range(row.offset // PAGE, -(-min(end, inode.item.size) // PAGE)):
                yield page, row


def _page(inode: Inode, row: FileExtentRow, page: int, scheme: str) -> tuple[str, Any]:
    if scheme in ("none", "inode"):
        return "", None
    if scheme == "device-posted":
        return _posted(inode, row, page)
    if row.kind in ("inline", "prealloc"):
        return row.kind, None
    flags = inode.item.flags
    if scheme == "content":
        return ("no checksum", None) if flags & InodeFlag.NODATASUM else _content(inode, row, page)
    if flags & InodeFlag.NODATACOW:
        return "nodatacow", None
    if scheme == "device":
        if row.kind == "compressed":
            return "compressed", None
        place = inode.image.volume.chunk_map.locate(logical_of(row, page)).copies[0]
        return "", (place.devid, place.physical // PAGE)
    assert row.extent
    inside = row.extent.offset + page * PAGE - row.offset
    if row.kind == "compressed":
        extent: Any = (row.compression, row.extent.generation, row.extent.logical, inside // PAGE)
    else:
        extent = (row.extent.generation, (row.extent.logical + inside) // PAGE)
    return "", (extent, page) if scheme == "same-offset" else extent


def logical_of(row: FileExtentRow, page: int) -> int:
    """Return the logical address of a page, as if nothing was compressed."""
    return (row.logical or 0) + page * PAGE - row.offset


def _posted(inode: Inode, row: FileExtentRow, page: int) -> tuple[str, Any]:
    if inode.image.superblock.num_devices != 1:
        return "devices", None
    if inode.item.flags & InodeFlag.NODATACOW:
        return "nodatacow", None
    address = (1 << 64) - 2 + page * PAGE if row.kind == "inline" else logical_of(row, page)
    return "", address // PAGE


def _content(inode: Inode, row: FileExtentRow, page: int) -> tuple[str, Any]:
    sector = inode.image.volume.sectorsize
    assert row.extent
    try:
        if row.kind == "compressed":
            sums = inode.image.csums.lookup(row.extent.logical, row.extent.length)
            inside = (row.extent.offset + page * PAGE - row.offset) // PAGE
            return "", ("compressed", row.compression, sums, inside)
        address = logical_of(row, page)
        return "", ("plain", inode.image.csums.lookup(address // sector * sector, sector), address % sector // PAGE)
    except BtrimgError:
        return "no checksum", None


class _Whole:
    """A file by its whole list of extents."""

    def __init__(self, inode: Inode) -> None:
        size = inode.item.size
        rows = [row for row in inode.extents(holes=True) if row.offset < size]
        self._refusal = "nodatacow" if inode.item.flags & InodeFlag.NODATACOW else ""
        if any(row.kind == "inline" for row in rows):
            self._refusal = "inline"
        ends = [min(row.end, -(-size // PAGE) * PAGE) for row in rows]
        self._list = tuple(row._replace(length=end - row.offset) for row, end in zip(rows, ends, strict=True))

    def page(self, page: int) -> tuple[str, Any]:
        return self._refusal, (self._list, page)
