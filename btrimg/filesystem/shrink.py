"""How small a device could be made by moving its chunks."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from btrimg.errors import NotFoundError
from btrimg.named import NamedTuple
from btrimg.ondisk.blocks import Key
from btrimg.ondisk.chunks import DevExtent
from btrimg.ondisk.constants import DEV_ITEMS_OBJECTID, SUPERBLOCK_OFFSETS, U64_MAX, ItemType, TreeId
from btrimg.ondisk.items import records_of
from btrimg.units import MIB
from btrimg.volume.devicemap import RESERVED

if TYPE_CHECKING:
    from collections.abc import Iterator

    from btrimg.filesystem.image import Image

_SYSTEM_CHUNK = 32 * MIB  # moving a chunk may need one more system chunk, which is no larger


class _Range(NamedTuple):
    """Bytes [start, end) of a device."""

    start: int
    end: int

    @property
    def length(self) -> int:
        return self.end - self.start


def min_device_size(image: Image, devid: int) -> int:
    """Return the bytes to which device *devid* could be shrunk, as ``btrfs inspect-internal min-dev-size`` reckons.

    That is what its device extents take, if those beyond fit into holes before; else the end of the first from behind
    that does not. What is moved needs its size once more while it is moved, and a hole at a superblock may turn out too
    small (btrfs-progs 6.19, cmds/inspect.c ``print_min_dev_size``). Raises NotFoundError when there is no such device,
    BlockError or CorruptError when the device tree cannot be read.
    """
    try:
        image.tree(TreeId.CHUNK_TREE).get(Key(DEV_ITEMS_OBJECTID, ItemType.DEV_ITEM, devid))
    except NotFoundError:
        raise NotFoundError(f"there is no device {devid}") from None
    extents = list(_device_extents(image, devid))
    holes = [_Range(one.end, other.start) for one, other in pairwise(extents)]
    size = RESERVED + sum(extent.length for extent in extents)
    largest_moved = 0
    for extent in reversed(extents):
        if extent.end - 1 <= size:
            break
        fitting = next((number for number, hole in enumerate(holes) if hole.length >= extent.length), None)
        if fitting is None:
            size = extent.end
            break
        start, end = holes[fitting]
        holes[fitting] = _Range(start + extent.length, end)
        if any(start <= offset < start + extent.length for offset in SUPERBLOCK_OFFSETS):
            size += extent.length
        largest_moved = max(largest_moved, extent.length)
    return size + largest_moved + (_SYSTEM_CHUNK if largest_moved else 0)


def _device_extents(image: Image, devid: int) -> Iterator[_Range]:
    first = Key(devid, ItemType.DEV_EXTENT, 0)
    for key, payload in image.tree(TreeId.DEV_TREE).items(first, first._replace(offset=U64_MAX)):
        yield _Range(key.offset, key.offset + records_of(DevExtent, key.type, payload)[0].length)
