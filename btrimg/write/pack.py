"""Tree blocks made from their slots: where to cut a run of items into blocks, and the bytes of each block."""

from __future__ import annotations

import struct
from bisect import bisect_right
from itertools import accumulate, chain

from btrimg.errors import UnsupportedError
from btrimg.named import NamedTuple
from btrimg.ondisk.blocks import Header, Item, KeyPtr
from btrimg.ondisk.constants import BACKREF_REV_SHIFT, HeaderFlag
from btrimg.ondisk.seal import seal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from btrimg.ondisk.blocks import Key
    from btrimg.ondisk.csum import CsumAlgorithm

_MIXED_BACKREF = 1  # the backref revision of every block since 2009


class Stamp(NamedTuple):
    """What is the same in all tree blocks that a transaction writes."""

    fsid: bytes  #: the metadata_uuid, see Header
    chunk_tree_uuid: bytes
    generation: int
    nodesize: int
    csum: CsumAlgorithm

    @property
    def room(self) -> int:
        """Return the bytes that the slots and payloads of one block may take."""
        return self.nodesize - Header.SIZE

    def restamp(self, data: bytes, owner: int, logical: int) -> bytes:
        """Return the block *data* as one that *owner* writes to *logical* now."""
        header = Header.unpack(data)
        return _block(data[Header.SIZE :], header.nritems, header.level, owner, logical, self)


def cut(sizes: Sequence[int], room: int) -> list[int]:
    """Return the end of each block when things of *sizes* bytes are packed into blocks of *room* bytes in order.

    Blocks are packed full, but where the last one would not be half full it shares evenly with the one before it, so
    that the next insertion there finds room. Raises UnsupportedError when one thing alone is too large.
    """
    ends = list(accumulate(sizes))
    if not ends:
        return []
    total, taken = ends[-1], 0
    bounds: list[int] = []
    while taken + room < total:
        end = bisect_right(ends, taken + room)
        if end == (bounds[-1] if bounds else 0):
            raise UnsupportedError(f"an item of {sizes[end]} bytes does not fit a tree block, which holds {room}")
        bounds.append(end)
        taken = ends[end - 1]
    if bounds and total - taken < room // 2:
        first = bounds[-2] if len(bounds) > 1 else 0
        start = ends[first - 1] if first else 0
        even = bisect_right(ends, start + (total - start) // 2)
        if even > first and total - ends[even - 1] <= room:
            bounds[-1] = even
    return [*bounds, len(ends)]


def leaf(keys: Sequence[Key], payloads: Sequence[bytes], owner: int, logical: int, stamp: Stamp) -> bytes:
    """Return the leaf with these items, of the tree *owner*, for the address *logical*."""
    sizes, room = [*map(len, payloads)], stamp.room
    offsets = [room - end for end in accumulate(sizes)]  # the first item's payload stands last
    slots = _packed(Item.STRUCT.format, zip(*zip(*keys, strict=True), offsets, sizes, strict=True), len(keys))
    gap = (offsets[-1] if offsets else room) - len(slots)
    return _block(b"".join((slots, bytes(gap), *reversed(payloads))), len(keys), 0, owner, logical, stamp)


def node(
    keys: Sequence[Key],
    pointers: Sequence[tuple[int, int]],
    level: int,
    owner: int,
    logical: int,
    stamp: Stamp,
) -> bytes:
    """Return the node whose children have these first *keys*; *pointers* are their (logical, generation)."""
    slots = _packed(KeyPtr.STRUCT.format, map(chain, keys, pointers), len(keys))
    return _block(slots.ljust(stamp.room, b"\0"), len(keys), level, owner, logical, stamp)


def _packed(layout: str, slots: Iterable[Iterable[int]], count: int) -> bytes:
    """Return *count* slots as they are on the disk, of *layout* each."""
    return struct.pack(layout[0] + layout[1:] * count, *chain.from_iterable(slots))


def _block(body: bytes, count: int, level: int, owner: int, logical: int, stamp: Stamp) -> bytes:
    flags = HeaderFlag.WRITTEN | _MIXED_BACKREF << BACKREF_REV_SHIFT
    header = Header(
        bytes(32),
        stamp.fsid,
        logical,
        flags,
        stamp.chunk_tree_uuid,
        stamp.generation,
        owner,
        count,
        level,
    )
    return seal(header.pack() + body, stamp.csum)
