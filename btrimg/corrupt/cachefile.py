"""The v1 space cache of a block group as bytes: where its fields stand, and the crcs of its pages made right.

The layout is told in :mod:`btrimg.filesystem.spacecache`, which reads only what the kernel would believe.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from btrimg.errors import NotFoundError
from btrimg.named import NamedTuple
from btrimg.ondisk.blocks import Key
from btrimg.ondisk.chunks import FreeSpaceEntry, FreeSpaceHeader
from btrimg.ondisk.constants import ItemType, TreeId
from btrimg.ondisk.csum import crc32c
from btrimg.ondisk.extents import FileExtent
from btrimg.ondisk.spans import Span, Step, find_span, sliced

if TYPE_CHECKING:
    from collections.abc import Sequence

    from btrimg.corrupt.descent import Descent

_CRC, _GENERATION = 4, 8  # bytes


class CacheFile(NamedTuple):
    """The data of a space cache."""

    pieces: tuple[tuple[int, int], ...]  #: (logical, bytes)
    page: int  #: bytes, a sector

    @property
    def size(self) -> int:
        """Return its bytes."""
        return sum(length for _, length in self.pieces)

    @property
    def pages(self) -> int:
        """Return how many crcs stand at its start."""
        return self.size // self.page

    def place(self, steps: Sequence[Step]) -> Span:
        """Return where ``crcs[n]``, ``generation``, ``entries[n].FIELD`` or ``bytes[a:b]`` stands.

        Raises NotFoundError.
        """
        first = steps[0] if steps else Step()
        number = steps[1].at if len(steps) > 1 and isinstance(steps[1].at, int) else None
        if first.name == "generation" and len(steps) == 1:
            return Span(_CRC * self.pages, _GENERATION, "Q", None)
        if first.name == "crcs" and number is not None and 0 <= number < self.pages and len(steps) == 2:
            return Span(_CRC * number, _CRC, "I", None)
        if first.name == "bytes" and len(steps) == 2:
            return sliced(Span(0, self.size, None, None), steps[1], "the space cache")
        if first.name == "entries" and number is not None and number >= 0:
            return find_span(FreeSpaceEntry, bytes(self.size), self._entry(number), steps[2:])
        raise NotFoundError("a space cache has generation, crcs[n], entries[n].offset, .bytes, .type and bytes[a:b]")

    def _entry(self, number: int) -> int:
        """Return where an entry starts; none crosses the end of a page."""
        head = _CRC * self.pages + _GENERATION
        in_first = (self.page - head) // FreeSpaceEntry.SIZE
        page, within = divmod(number - in_first, self.page // FreeSpaceEntry.SIZE)
        start = head + number * FreeSpaceEntry.SIZE
        if number >= in_first:
            start = (page + 1) * self.page + within * FreeSpaceEntry.SIZE
        if start + FreeSpaceEntry.SIZE > self.size:
            raise NotFoundError(f"the space cache has no room for an entry {number}")
        return start

    def sealed(self, data: bytes, before: bytes) -> bytes:
        """Return *data* with the crcs made right of the pages that differ from *before*."""
        out = bytearray(data)
        for number in range(self.pages):
            start, end = number * self.page, (number + 1) * self.page
            skipped = _CRC * self.pages if not number else 0
            if data[start + skipped : end] != before[start + skipped : end]:
                struct.pack_into("<I", out, _CRC * number, crc32c(data[start + skipped : end]))
        return bytes(out)


def find_cache(descent: Descent, page: int, block_group: int) -> CacheFile:
    """Return the space cache of the block group at logical *block_group*; raise NotFoundError when it has none."""
    root = descent.root_of(TreeId.ROOT_TREE)
    headers = [payload for _, payload in descent.items(root, Key(TreeId.FREE_SPACE, ItemType.UNTYPED, block_group))]
    if not headers:
        raise NotFoundError(f"block group {block_group} has no space cache")
    ino = FreeSpaceHeader.unpack(headers[0]).location.objectid
    extents = [FileExtent.unpack(payload) for _, payload in descent.items(root, (ino, ItemType.EXTENT_DATA, None))]
    pieces = tuple((extent.disk_bytenr + extent.offset, extent.num_bytes) for extent in extents if extent.disk_bytenr)
    if not pieces:
        raise NotFoundError(f"the space cache of block group {block_group} is empty")
    return CacheFile(pieces, page)
