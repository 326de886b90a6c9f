"""How the kernel is to be shown an image that is open: in which order, with which options, or why not."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from btrimg.ondisk.constants import SUPERBLOCK_OFFSETS, SUPERBLOCK_SIZE
from btrimg.ondisk.superblock import Superblock
from btrimg.oracle import kernel
from btrimg.oracle.kernel import MountError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from btrimg.filesystem.image import Image


def why_not_twice(image: Image) -> str | None:
    """Return why an image cannot be mounted while another mount is there, None if there is none."""
    if not kernel.is_mounted(image.superblock.fsid):
        return None
    return "this filesystem or a copy of it is mounted, and the kernel would mix up the two: unmount that first"


def mountable_first(image: Image) -> list[str]:
    """Return the paths of the devices, one first through which the filesystem can be mounted: no seed."""

    def is_seed(path: str) -> bool:
        device = next(each for each in image.volume.devices.values() if each.path == path)
        raw = device.pread(SUPERBLOCK_SIZE, SUPERBLOCK_OFFSETS[0])
        return bool(Superblock.unpack(raw).fsid != image.superblock.fsid)

    return sorted((device.path for device in image.volume.devices.values()), key=is_seed)


def options_of(image: Image) -> list[str]:
    """Return what to mount with: a log is not replayed, since the image is read as of its last commit."""
    missing = len(image.volume.devices) < image.superblock.num_devices
    return [*(["rescue=nologreplay"] if image.superblock.log_root else []), *(["degraded"] if missing else [])]


@contextmanager
def shown(image: Image) -> Iterator[str]:
    """Have the kernel show *image*, read-only, on loop devices of its own; give the directory. Raises MountError."""
    reason = kernel.why_no_mounts() or why_not_twice(image)
    if reason:
        raise MountError(reason)
    with (
        kernel.attached(mountable_first(image)) as loops,
        kernel.mounted(loops, options=options_of(image)) as where,
    ):
        yield where
