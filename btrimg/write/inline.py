"""Small files inside the items of their extents: which ones, and how."""

from __future__ import annotations

from typing import TYPE_CHECKING

from btrimg.ondisk.blocks import Header, Item
from btrimg.ondisk.constants import Compression, FileExtentType
from btrimg.ondisk.extents import FileExtentInline

if TYPE_CHECKING:
    from btrimg.volume.volume import Volume
    from btrimg.write.encode import Prepared

MAX_INLINE = 2048  #: bytes, unless a mount says otherwise (fs/btrfs/disk-io.c ``BTRFS_DEFAULT_MAX_INLINE``)


def most_inline(volume: Volume, max_inline: int = MAX_INLINE) -> int:
    """Return the most bytes that an inline extent may store, of *max_inline* wanted.

    Less than a sector, and no more than a leaf holds in one item (fs/btrfs/inode.c ``can_cow_file_range_inline``).
    """
    room = volume.nodesize - Header.SIZE - Item.SIZE - FileExtentInline.SIZE
    return min(max_inline, volume.sectorsize - 1, room)


def inline_extent(
    volume: Volume, generation: int, data: Prepared, max_inline: int = MAX_INLINE
) -> FileExtentInline | None:
    """Return the inline extent of a file that is *data* and nothing else, None if it must not be inline.

    Compressed where that is shorter at all. Empty files have no extent.
    """
    size = len(data.data)
    if not 0 < size <= volume.sectorsize:
        return None
    stream = data.streams[0]() if data.streams else None
    stored = bytes(data.data) if stream is None else stream
    if len(stored) > most_inline(volume, max_inline):
        return None
    kind = Compression.NONE if stream is None else data.kind
    return FileExtentInline(generation, size, kind, 0, 0, FileExtentType.INLINE, stored)
