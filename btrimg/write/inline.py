"""Small files inside the items of their extents: which ones."""

from __future__ import annotations

from btrimg.ondisk.blocks import Header, Item
from btrimg.ondisk.extents import FileExtentInline

TYPE_CHECKING = False
if TYPE_CHECKING:
    from btrimg.volume.volume import Volume

MAX_INLINE = 2048  #: bytes, unless a mount says otherwise (fs/btrfs/disk-io.c ``BTRFS_DEFAULT_MAX_INLINE``)


def most_inline(volume: Volume, max_inline: int = MAX_INLINE) -> int:
    """Return the most bytes that an inline extent may store, of *max_inline* wanted.

    Less than a sector, and no more than a leaf holds in one item (fs/btrfs/inode.c ``can_cow_file_range_inline``).
    """
    room = volume.nodesize - Header.SIZE - Item.SIZE - FileExtentInline.SIZE
    return min(max_inline, volume.sectorsize - 1, room)
