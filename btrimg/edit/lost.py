"""Devices that have lost all their superblocks, known again by what lies on them, and given superblocks of their own.

All devices of a filesystem have the same superblock, but for the item of the device in it, of which the chunk tree has
another copy; so the superblock of a device can be made from that of any other one. Which device a file was, what the
other devices promise to be on it tells: tree blocks, and data with checksums.
"""

from __future__ import annotations

from contextlib import suppress
from itertools import islice
from typing import TYPE_CHECKING, TypeVar

from btrimg.errors import ChecksumError, DeviceError, NotFoundError, RefusedError
from btrimg.filesystem.image import device_items
from btrimg.ondisk.blocks import Header, Key
from btrimg.ondisk.constants import STRIPE_LEN, U64_MAX, ExtentFlag, ItemType, TreeId
from btrimg.ondisk.extents import ExtentItem
from btrimg.volume.superblocks import uuid_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from btrimg.filesystem.image import Image
    from btrimg.ondisk.chunks import DevItem
    from btrimg.ondisk.superblock import Superblock
    from btrimg.volume.chunkmap import MappedChunk
    from btrimg.volume.device import Device

    AnyDevice = TypeVar("AnyDevice", bound=Device)

_ENOUGH = 16  # promises of one chunk, on one device, that are looked at


def known_again(image: Image, lost: Sequence[AnyDevice], *, force: bool = False) -> dict[int, AnyDevice]:
    """Return which missing device of *image* each of *lost* is, by devid.

    The last of both belong together unless what is on the one contradicts the other; with *force* even then. Raises
    NotFoundError where nothing tells, RefusedError when a device is too small, or of a seed.
    """
    missing = {
        item.devid: item
        for _, item in device_items(image.tree(TreeId.CHUNK_TREE))
        if item.devid not in image.volume.devices
    }
    pairs = [(*_promises_of(image, devid, device), devid, device) for devid in missing for device in lost]
    known: dict[int, AnyDevice] = {}
    for kept, _, devid, device in sorted(pairs, key=lambda pair: pair[1] - pair[0]):
        if kept and devid not in known and device not in known.values():
            known[devid] = device
    left = [device for device in lost if device not in known.values()]
    if left:
        devid, device = next((each for each in missing if each not in known), 0), left[0]
        if len(left) > 1 or len(missing) - len(known) != 1:
            raise NotFoundError(
                f"{device.path} has no sound superblock, and nothing on it tells which device it was;"
                f" missing are {', '.join(map(str, sorted(missing.keys() - known.keys()))) or 'none'}"
            )
        if not force and any(pair[1] and pair[2:] == (devid, device) for pair in pairs):
            raise NotFoundError(
                f"{device.path} holds nothing of what device {devid}, which is missing, should hold; --force makes it"
                " that device all the same, and scrub writes anew what there are other copies of"
            )
        known[devid] = device
    for devid, device in known.items():
        _refuse(image, missing[devid], device)
    return known


def _refuse(image: Image, item: DevItem, device: Device) -> None:
    if item.fsid != image.volume.metadata_fsid:
        raise RefusedError(
            f"{device.path} was device {item.devid}, of the seed {uuid_text(item.fsid)}: its superblock is that of"
            " another filesystem, which cannot be made from this one's"
        )
    if device.size < item.total_bytes:
        raise RefusedError(f"device {item.devid} has {item.total_bytes} bytes, {device.path} only {device.size}")


def superblocks_of(image: Image, devids: Sequence[int]) -> Mapping[int, Superblock]:
    """Return the superblocks of these devices: the newest one's, with their own items."""
    items = {item.devid: item for _, item in device_items(image.tree(TreeId.CHUNK_TREE))}
    return {devid: image.superblock.replace(dev_item=items[devid]) for devid in devids}


def _promises_of(image: Image, devid: int, device: Device) -> tuple[int, int]:
    """Return how much of what should be on *devid* is on *device*, and how much is not; of each chunk a little."""
    kept = broken = 0
    for chunk in image.volume.chunk_map:
        if any(stripe.devid == devid for stripe in chunk.stripes):
            for is_kept in islice(_promises(image, chunk, devid, device), _ENOUGH):
                kept, broken = kept + is_kept, broken + (not is_kept)
    return kept, broken


def _promises(image: Image, chunk: MappedChunk, devid: int, device: Device) -> Iterator[bool]:
    """Yield, for tree blocks and data in *chunk* that have a copy on *devid*, whether *device* has it.

    Zeros tell nothing: they are also where nothing was ever written.
    """
    sector = image.volume.sectorsize
    zeros = image.volume.csum.digest(bytes(sector))
    extents = image.tree(TreeId.EXTENT_TREE).items(Key(chunk.logical, 0, 0), Key(chunk.end - 1, 255, U64_MAX))
    for key, payload in extents:
        if key.type == ItemType.METADATA_ITEM or (
            key.type == ItemType.EXTENT_ITEM and ExtentItem.unpack(payload).flags & ExtentFlag.TREE_BLOCK
        ):
            for physical in _places(chunk, key.objectid, devid):
                yield _has_block(image, key.objectid, device, physical)
        elif key.type == ItemType.EXTENT_ITEM:
            with suppress(ChecksumError, NotFoundError):  # it has none
                for logical in range(key.objectid, min(key.objectid + key.offset, chunk.end), STRIPE_LEN):
                    promised = image.csums.lookup(logical, sector)
                    for physical in _places(chunk, logical, devid) if promised != zeros else ():
                        yield _has_data(image, promised, device, physical)


def _places(chunk: MappedChunk, logical: int, devid: int) -> Iterator[int]:
    return (place.physical for place in chunk.locate(logical).copies if place.devid == devid)


def _has_block(image: Image, logical: int, device: Device, physical: int) -> bool:
    csum = image.volume.csum
    try:
        data = device.pread(image.volume.nodesize, physical)
    except DeviceError:
        return False
    header = Header.unpack(data)
    return (header.bytenr, header.csum[: csum.size]) == (logical, csum.digest(memoryview(data)[32:]))


def _has_data(image: Image, promised: bytes, device: Device, physical: int) -> bool:
    volume = image.volume
    try:
        return promised == volume.csum.digest(device.pread(volume.sectorsize, physical))
    except DeviceError:
        return False
