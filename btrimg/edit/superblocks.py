"""Superblocks changed where they stand: every copy on every device of the filesystem, the primary of each last."""

from __future__ import annotations

from btrimg.errors import CorruptError, DeviceError
from btrimg.filesystem.image import device_items
from btrimg.named import NamedTuple
from btrimg.ondisk.constants import SUPERBLOCK_OFFSETS, SUPERBLOCK_SIZE, SuperFlag, TreeId
from btrimg.ondisk.seal import seal_superblock
from btrimg.volume.draft import Piece
from btrimg.volume.superblocks import choose, metadata_fsid

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from btrimg.filesystem.image import Image
    from btrimg.ondisk.superblock import Superblock
    from btrimg.volume.device import Device

    Change = Callable[[Superblock], Superblock]


class Standing(NamedTuple):
    """The superblock of one device, as it stands there."""

    devid: int
    device: Device
    superblock: Superblock


def standing(image: Image) -> list[Standing]:
    """Return the superblock of every device of the filesystem on top, by devid; its seeds have their own.

    Raises DeviceError when a device is missing: it would come back as one of another filesystem, or of an older state.
    """
    found = []
    changing = image.superblock.flags & SuperFlag.CHANGING_FSID  # then some have another
    for devid, device in sorted(image.volume.devices.items()):
        superblock = choose(device, image.volume.warn)
        if changing or metadata_fsid(superblock) == image.volume.metadata_fsid:
            found.append(Standing(devid, device, superblock))
    theirs = (item for _, item in device_items(image.tree(TreeId.CHUNK_TREE)))
    missing = [item.devid for item in theirs if item.devid not in image.volume.devices]
    if missing:
        raise DeviceError(f"device {missing[0]} is missing: give it too (-d), for its superblock is to change as well")
    if not found:
        raise CorruptError("no device has a superblock of the filesystem")
    return found


def changed_superblocks(image: Image, change: Change) -> Iterator[Piece]:
    """Yield what *change*, given the superblock of each device, makes of all its copies there.

    Copies that were bad or old become good. Raises DeviceError when a device is missing.
    """
    for devid, device, superblock in standing(image):
        yield from copies_of(devid, device, change(superblock))


def copies_of(devid: int, device: Device, superblock: Superblock) -> Iterator[Piece]:
    """Yield what is to be written so that every place of a device has *superblock*, but for those that have it."""
    end = min(device.size, superblock.dev_item.total_bytes)
    for offset in reversed(SUPERBLOCK_OFFSETS):
        if offset + SUPERBLOCK_SIZE <= end:
            before = device.pread(SUPERBLOCK_SIZE, offset)
            after = seal_superblock(superblock.replace(bytenr=offset).pack())
            if before != after:
                yield Piece(devid, offset, before, after)
