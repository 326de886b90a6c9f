"""A device made larger or smaller: what lies behind the new end is moved, and image files get their new length."""

from __future__ import annotations

from typing import TYPE_CHECKING

from btrimg.edit.editing import one_commit
from btrimg.edit.layout import Planner
from btrimg.edit.rechunk import grains_of, recut
from btrimg.errors import BtrimgError, NotFoundError, RefusedError
from btrimg.filesystem.image import device_items
from btrimg.ondisk.constants import SUPERBLOCK_OFFSETS, SUPERBLOCK_SIZE, TreeId
from btrimg.units import round_down
from btrimg.volume.devicemap import RESERVED

if TYPE_CHECKING:
    from btrimg.edit.editing import Editing
    from btrimg.edit.sizes import NewSize
    from btrimg.filesystem.image import Image
    from btrimg.ondisk.chunks import DevItem

_LARGEST = 1 << 62  # bytes; files end before 1 << 63
_MOST_COMMITS = 4  # one is usual, and two where free space within chunks is what makes room


def resize(session: Editing, wanted: NewSize) -> tuple[int, int]:
    """Let the filesystem end where *wanted* says, in whole sectors; return the device, and its bytes from now on.

    An image file is made longer before, and cut after. Raises NotFoundError when there is no such device, RefusedError
    when its size cannot be so, NoSpaceError when there is no room for what lies behind: nothing has changed then.
    """
    item = _item(session.image, wanted.devid)
    devid, device = item.devid, session.image.volume.devices[item.devid]
    size = wanted.of(item.total_bytes)
    new = round_down(device.size if size is None else max(size, 0), session.image.volume.sectorsize)
    if new > _LARGEST:
        raise RefusedError(f"no device has {new} bytes")
    if new > device.size:
        if device.is_block:
            raise RefusedError(f"{device.path} has {device.size} bytes, the filesystem cannot end at {new}")
        session.sink.resize(devid, new)
    if new >= item.total_bytes:
        with one_commit(session) as txn:
            txn.space.resize(devid, new)
        return devid, new
    if new <= RESERVED:
        raise RefusedError(f"device {devid} cannot end at {new}: its first {RESERVED} bytes hold no chunk")
    _shrink(session, devid, new)
    _cut(session, devid, new)
    return devid, new


def _item(image: Image, devid: int | None) -> DevItem:
    """Return the item of a device, of the only one if none is named."""
    items = dict(device_items(image.tree(TreeId.CHUNK_TREE)))
    known = ", ".join(map(str, sorted(items)))
    if devid is None:
        if len(items) > 1:
            raise RefusedError(f"say which device, before the size and a colon: there are {known}")
        devid = next(iter(items))
    if devid not in items or devid not in image.volume.devices:
        raise NotFoundError(f"there is no device {devid}; there are {known}")
    if devid in image.volume.seeds:
        raise RefusedError(f"device {devid} is a seed, which is never written to")
    return items[devid]


def _shrink(session: Editing, devid: int, end: int) -> None:
    for _ in range(_MOST_COMMITS):
        with one_commit(session) as txn:
            devices = session.image.volume.devices
            items = {each: item for each, item in txn.space.device_items().items() if txn.space.writable(each)}
            ends = {each: min(item.total_bytes, devices[each].size) for each, item in items.items()} | {devid: end}
            uuids = {each: item.uuid for each, item in items.items()}
            recut(txn, session.sink, Planner(grains_of(txn), devid, ends, uuids).plan())
            fits = txn.space.end_of(devid) <= end
            if fits:
                txn.space.resize(devid, end)
        if fits:
            return
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
