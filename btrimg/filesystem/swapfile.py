"""Whether a file could be a swap file, and where it starts: what the kernel and resume from hibernation ask."""

from __future__ import annotations

from typing import TYPE_CHECKING

from btrimg.filesystem.backrefs import Backrefs
from btrimg.filesystem.extents import file_extents
from btrimg.named import NamedTuple
from btrimg.ondisk.constants import InodeFlag
from btrimg.units import round_down

if TYPE_CHECKING:
    from collections.abc import Iterator

    from btrimg.filesystem.extents import ExtentRef, FileExtentRow
    from btrimg.filesystem.inode import Inode
    from btrimg.volume.chunkmap import Location, MappedChunk

_BAD_KINDS = {"hole": "file with holes", "inline": "file with inline extent", "compressed": "compressed extent"}


class Swapfile(NamedTuple):
    """Where a file starts as swap space, or why it cannot be that."""

    devid: int | None
    physical: int | None  #: of the first byte
    refusal: str | None  #: None when it could be a swap file


def map_swapfile(inode: Inode) -> Swapfile:
    """Return where *inode* starts if it could be a swap file, else why not: the reasons of ``btrfs_swap_activate``.

    (fs/btrfs/inode.c of Linux 6.13; older kernels also refuse extents that were shared once.) Raises CorruptError when
    file extents make no sense or a block on the way to them is bad.
    """
    refusal = _refusal_of_inode(inode)
    if refusal:
        return Swapfile(None, None, refusal)
    start: Location | None = None
    backrefs, asked = Backrefs(inode.image), set[int]()
    for row in _rows(inode):
        if row.kind in _BAD_KINDS or row.extent is None or row.logical is None:
            return Swapfile(None, None, _BAD_KINDS[row.kind])
        for chunk in _chunks(inode, row.logical, row.length):
            if chunk.profile.name != "single":
                return Swapfile(None, None, f"unsupported block group profile: {chunk.profile.name}")
            place = chunk.locate(max(row.logical, chunk.logical)).copies[0]
            start = start or place
            if place.devid != start.devid:
                return Swapfile(None, None, "file stored on multiple devices")
        if row.extent.logical not in asked and _is_shared(backrefs, row.extent):
            return Swapfile(None, None, "file shares extents with another one or a snapshot")
        asked.add(row.extent.logical)
    return Swapfile(*start, None) if start else Swapfile(None, None, "file is shorter than a sector")


def _refusal_of_inode(inode: Inode) -> str | None:
    if not inode.is_regular:
        return "not a regular file"
    flags = inode.item.flags
    if not flags & InodeFlag.NODATACOW:
        return "file is not NOCOW"
    if flags & InodeFlag.COMPRESS:
        return "file with COMP attribute"
    return None if flags & InodeFlag.NODATASUM else "file with checksums"


def _rows(inode: Inode) -> Iterator[FileExtentRow]:
    """Yield the file extents of the whole sectors of *inode*: what lies behind the last one is not swapped to."""
    end = round_down(inode.item.size, inode.image.volume.sectorsize)
    for row in file_extents(inode, holes=True):
        if row.offset >= end and row.kind != "inline":
            return
        yield row


def _chunks(inode: Inode, logical: int, length: int) -> Iterator[MappedChunk]:
    at = logical
    while at < logical + length:
        chunk = inode.image.volume.chunk_map.find(at)
        yield chunk
        at = chunk.end


def _is_shared(backrefs: Backrefs, extent: ExtentRef) -> bool:
    """Return whether a file extent uses *extent* that is no piece of the only file that does."""
    found = next(backrefs.extents(extent.logical, extent.logical + 1), None)
    uses = backrefs.uses(found) if found else []
    return len({(use.tree, use.ino, use.row.offset - use.row.extent.offset) for use in uses if use.row.extent}) > 1
