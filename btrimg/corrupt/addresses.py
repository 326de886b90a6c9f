"""Targets that are addresses: data, its checksums, parity, and raw bytes of a device."""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING

from btrimg.corrupt import leaf
from btrimg.errors import NotFoundError
from btrimg.named import NamedTuple
from btrimg.ondisk.blocks import Key
from btrimg.ondisk.constants import ItemType, TreeId
from btrimg.ondisk.spans import Span

if TYPE_CHECKING:
    from btrimg.corrupt.descent import Descent, Way
    from btrimg.corrupt.storage import Storage
    from btrimg.volume.chunkmap import Location
    from btrimg.volume.volume import Volume


class StoredCsum(NamedTuple):
    """Where the checksum of a sector of data stands."""

    way: Way
    key: Key  #: of the item
    span: Span  #: within its payload

    def slot_in(self, data: bytes) -> int:
        """Return the item's slot in a copy of its leaf; raise NotFoundError when it is not there."""
        keys = leaf.keys_of(data)
        if self.key not in keys:
            raise NotFoundError("there is no checksum item in this copy of the leaf")
        return keys.index(self.key)


def find_csum(volume: Volume, descent: Descent, logical: int) -> StoredCsum:
    """Return where the checksum of the sector at *logical* stands; raise NotFoundError when it has none."""
    wanted = Key(TreeId.EXTENT_CSUM, ItemType.EXTENT_CSUM, logical)
    way = descent.way_to(descent.root_of(TreeId.CSUM_TREE), wanted)
    data = descent.block(way.logical)
    keys = leaf.keys_of(data)
    slot = bisect_right(keys, wanted) - 1
    size = volume.csum.size
    if slot >= 0 and keys[slot][:2] == wanted[:2]:
        at = (logical - keys[slot].offset) // volume.sectorsize * size
        if at + size <= leaf.payload_start(data, slot)[1]:
            return StoredCsum(way, keys[slot], Span(at, size, None, None))
    raise NotFoundError(f"the data at logical {logical} has no checksum")


def parity_place(storage: Storage, logical: int, which: int) -> Location:
    """Return where P (0) or Q (1) of the row of *logical* has the byte that belongs to it.

    Raises NotFoundError when its chunk has none.
    """
    chunk = storage.chunks.find(logical)
    if which >= chunk.profile.parity:
        raise NotFoundError(f"the chunk of logical {logical} is {chunk.profile.name}, which has no {'PQ'[which]}")
    places = chunk.row(logical).places
    return places[len(places) - chunk.profile.parity + which]
