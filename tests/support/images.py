"""Have the kernel write a filesystem of any profile and feature, and keep what it says of it."""

from __future__ import annotations

import os
import subprocess
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

from . import kernel
from .populate import populate
from .truth import Truth, record

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager

#: Devices per profile: more than the minimum, because a minimal RAID hides wrong columns.
DEVICES = {
    "single": 1,
    "dup": 1,
    "raid0": 3,
    "raid1": 3,
    "raid1c3": 4,
    "raid1c4": 5,
    "raid5": 4,
    "raid6": 5,
    "raid10": 6,
}
MIB = 1 << 20


class KernelImage(NamedTuple):
    """Image files of one filesystem, in devid order, and what the kernel says of it. Do not write to them."""

    devices: tuple[str, ...]
    truth: Truth
    default_subvolume: int

    def mount(self) -> AbstractContextManager[str]:
        """Mount read-only, for the length of a with block; give the directory."""
        return kernel.mount(self.devices, read_only=True)

    def copy(self, directory: str) -> tuple[str, ...]:
        """Copy the devices into *directory*, to be damaged there; give the paths."""
        return copy_sparse(self.devices, directory)


def copy_sparse(images: Sequence[str], directory: str) -> tuple[str, ...]:
    """Copy image files into *directory* under their own names, holes kept; give the paths."""
    os.makedirs(directory, exist_ok=True)
    kernel.run("cp", "--sparse=auto", *images, directory)
    return tuple(os.path.join(directory, os.path.basename(image)) for image in images)


def make_image(
    directory: str,
    *,
    profile: str = "single",
    metadata_profile: str | None = None,
    devices: int | None = None,
    nodesize: int = 16384,
    csum: str = "crc32c",
    compression: str | None = None,
    features: Sequence[str] = (),
    mkfs_options: Sequence[str] = (),
    size: int = 256 * MIB,
    default_subvolume: str | None = None,
) -> KernelImage:
    """Make, fill and read back a filesystem in *directory*, with *size* bytes (sparse) on each device.

    *metadata_profile* is *profile* unless said, *devices* as in DEVICES; *compression* is the mount option;
    *features* go to mkfs.btrfs -O; *default_subvolume* names (from the top) what a plain mount shall show.
    """
    images = new_devices(directory, devices or DEVICES[profile], size)
    options = ["--csum", csum, *(["--features", ",".join(features)] if features else []), *mkfs_options]
    mkfs(images, profile, metadata_profile, nodesize, options)
    default = kernel.TOP_LEVEL
    with kernel.mount(images, options=[f"compress={compression}"] if compression else []) as top:
        populate(top)
        if default_subvolume:
            default = kernel.subvolume_id(os.path.join(top, default_subvolume))
            kernel.set_default_subvolume(top, default)
    with kernel.mount(images, read_only=True) as top:
        return KernelImage(images, record(top), default)


def mkfs(
    images: Sequence[str],
    profile: str = "single",
    metadata_profile: str | None = None,
    nodesize: int = 16384,
    options: Sequence[str] = (),
) -> None:
    """Run mkfs.btrfs over *images*; the metadata profile is that of the data unless said."""
    layout = ["--data", profile, "--metadata", metadata_profile or profile, "--nodesize", str(nodesize)]
    kernel.run("mkfs.btrfs", "--quiet", "--nodiscard", *layout, *options, *images)


def new_devices(directory: str, count: int, size: int) -> tuple[str, ...]:
    """Make *count* empty image files of *size* bytes in *directory*; give their paths."""
    os.makedirs(directory, exist_ok=True)
    images = tuple(os.path.join(directory, f"dev{number}.img") for number in range(1, count + 1))
    for image in images:
        with open(image, "xb") as file:
            file.truncate(size)
    return images


@cache
def mkfs_features() -> str:
    """Return what ``mkfs.btrfs`` says of the features that it can make."""
    done = subprocess.run(["mkfs.btrfs", "-O", "list-all"], capture_output=True, text=True, check=True)
    return done.stdout + done.stderr
