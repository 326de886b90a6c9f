"""A device made larger or smaller: what lies behind the new end is moved, and image files get their new length."""

from __future__ import annotations

from typing import TYPE_CHECKING

from btrimg.edit.layout import Planner
from btrimg.edit.rechunk import grains_of, recut
from btrimg.errors import BtrimgError, NotFoundError, RefusedError
from btrimg.filesystem.image import device_items
from btrimg.ondisk.constants import SUPERBLOCK_OFFSETS, SUPERBLOCK_SIZE, TreeId
from btrimg.units import round_down
from btrimg.volume.devicemap import RESERVED

if TYPE_CHECKING:
    from btrimg.edit.editing import Editing
    from btrimg.filesystem.image import Image
    from btrimg.ondisk.chunks import DevItem

_MOST_COMMITS = 4  # one is usual, and two where free space within chunks is what makes room


def resize(session: Editing, devid: int, size: int | None) -> int:
    """Let the filesystem end at *size* bytes of a device (rounded down to whole sectors), and return where it does.

    None is the size that the device has. An image file is made longer before, and cut after. Raises NotFoundError when
    there is no such device, RefusedError when *size* cannot be, NoSpaceError when there is no room for what lies
    behind: nothing has changed then.
    """
    item, device = _item(session.image, devid), session.image.volume.devices[devid]
    new = round_down(device.size if size is None else size, session.image.volume.sectorsize)
    if new > device.size:
        if device.is_block:
            raise RefusedError(f"{device.path} has {device.size} bytes, the filesystem cannot end at {new}")
        session.sink.resize(devid, new)
    if new >= item.total_bytes:
        session.transaction().space.resize(devid, new)
        session.commit()
        return new
    if new <= RESERVED:
        raise RefusedError(f"device {devid} cannot end at {new}: its first {RESERVED} bytes hold no chunk")
    _shrink(session, devid, new)
    _cut(session, devid, new)
    return new


def _item(image: Image, devid: int) -> DevItem:
    items = dict(device_items(image.tree(TreeId.CHUNK_TREE)))
    if devid not in items or devid not in image.volume.devices:
        raise NotFoundError(f"there is no device {devid}; there are {', '.join(map(str, sorted(items)))}")
    if devid in image.volume.seeds:
        raise RefusedError(f"device {devid} is a seed, which is never written to")
    return items[devid]


def _shrink(session: Editing, devid: int, end: int) -> None:
    image, superblock = session.image, session.image.superblock
    for _ in range(_MOST_COMMITS):
        txn = session.transaction()
        items = {each: item for each, item in txn.space.device_items().items() if each in image.volume.devices}
        ends = {
            each: min(item.total_bytes, image.volume.devices[each].size)
            for each, item in items.items()
            if each not in image.volume.seeds
        }
        ends[devid] = end
        uuids = {each: item.uuid for each, item in items.items()}
        try:
            recuts = Planner(grains_of(txn), devid, ends, uuids).plan()
            recut(txn, session.sink, recuts)
            fits = txn.space.end_of(devid) <= end
            if fits:
                txn.space.resize(devid, end)
            session.commit()
        except BtrimgError:
            image.follow(superblock)
            raise
        if fits:
            return
        superblock = image.superblock
    raise BtrimgError(f"device {devid} is not freed from {end} on after {_MOST_COMMITS} commits: please report it")


def _cut(session: Editing, devid: int, end: int) -> None:
    """Cut an image file; of a block device, wipe the superblocks behind the end, which would be older soon."""
    device = session.image.volume.devices[devid]
    if not device.is_block:
        session.sink.resize(devid, end)
        return
    for offset in SUPERBLOCK_OFFSETS:
        if end < offset + SUPERBLOCK_SIZE <= device.size:
            session.sink.pwrite(devid, offset, bytes(SUPERBLOCK_SIZE))
    session.sink.sync()
