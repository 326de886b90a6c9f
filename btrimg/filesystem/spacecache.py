"""The v1 space cache: free space of a block group in the data of an inode of the root tree.

The data are pages of a sector each. The first one begins with a CRC-32C of every page, of the first one without these,
and the generation; then come the entries, none of which crosses the end of a page; then, one a page, the bitmaps of
those entries that are of type bitmap, in their order. Source: fs/btrfs/free-space-cache.c, __load_free_space_cache.
A kernel whose pages are larger than a sector writes larger pages; its caches are reported and left out.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from btrimg.errors import BtrimgError, CorruptError
from btrimg.filesystem import data
from btrimg.filesystem.image import Subvolume
from btrimg.filesystem.inode import Inode
from btrimg.ondisk.blocks import Key
from btrimg.ondisk.chunks import FreeSpaceEntry, FreeSpaceHeader
from btrimg.ondisk.constants import U64_MAX, ItemType, TreeId
from btrimg.ondisk.csum import crc32c
from btrimg.ondisk.roots import RootItem

if TYPE_CHECKING:
    from collections.abc import Iterator

    from btrimg.filesystem.image import Image

    Item = tuple[Key, bytes]

_EXTENT, _BITMAP = 1, 2  # types of an entry
_CRC = 4  # bytes


def cached_free_space(image: Image) -> Iterator[Item]:
    """Yield what the caches hold as items of the free space tree: extents, and bitmaps.

    Nothing where the kernel would not look: when the superblock does not name the last commit as that of the caches,
    and in a cache of another generation than its header's. A cache that cannot be read is reported and left out.
    """
    if image.superblock.cache_generation != image.superblock.generation:
        return
    first = Key(TreeId.FREE_SPACE, 0, 0)
    for key, payload in image.root_tree.items(first, first._replace(offset=U64_MAX), bad=image.report):
        try:
            header = FreeSpaceHeader.unpack(payload)
            found = list(_items(image, header))
        except BtrimgError as error:
            image.report(CorruptError(f"the space cache of block group {key.offset}: {error}"))
        else:
            yield from found


def _items(image: Image, header: FreeSpaceHeader) -> Iterator[Item]:
    top = Subvolume(TreeId.ROOT_TREE, RootItem.unpack(bytes(RootItem.SIZE)), image.root_tree)
    inode, size = Inode(image, top, header.location.objectid), image.volume.sectorsize
    if inode.item.generation != header.generation:
        return
    count, rest = divmod(inode.item.size, size)
    if rest or not 0 < count <= size // _CRC - 2:
        raise CorruptError(f"its inode {inode.ino} has {inode.item.size} bytes")
    pages = _Pages(data.read(inode, 0, count * size), count)
    if int.from_bytes(pages.take(8), "little") != header.generation:
        return
    bitmaps = []
    for _ in range(header.num_entries):
        entry = FreeSpaceEntry.unpack(pages.take(FreeSpaceEntry.SIZE))
        if entry.type == _EXTENT:
            yield Key(entry.offset, ItemType.FREE_SPACE_EXTENT, entry.bytes), b""
        elif entry.type == _BITMAP:
            bitmaps.append(entry.offset)
        else:
            raise CorruptError(f"an entry of type {entry.type} at {entry.offset}")
    for offset in bitmaps:
        yield Key(offset, ItemType.FREE_SPACE_BITMAP, size * size * 8), pages.take(size)


class _Pages:
    """The pages of a cache, read from the front and verified where they are read: those behind the end have no crc."""

    def __init__(self, data: bytes, count: int) -> None:
        self._data, self._size = data, len(data) // count
        self._crcs = struct.unpack_from(f"<{count}I", data)
        self._at = _CRC * count
        self._verify(0, self._at)

    def take(self, length: int) -> bytes:
        """Return the next *length* bytes that lie in one page; raise CorruptError behind the last one."""
        if self._at % self._size == 0 or self._at % self._size + length > self._size:
            self._at += -self._at % self._size
            self._verify(self._at // self._size, 0)
        self._at += length
        return self._data[self._at - length : self._at]

    def _verify(self, number: int, skipped: int) -> None:
        if number >= len(self._crcs):
            raise CorruptError(f"it ends after {number} pages")
        found = crc32c(self._data[number * self._size + skipped : (number + 1) * self._size])
        if found != self._crcs[number]:
            raise CorruptError(f"the crc of its page {number} is {found:#x}, it says {self._crcs[number]:#x}")
