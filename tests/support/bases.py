"""The good images that fixtures/broken/ breaks: each has what the rules judge, more than once, and is clean.

Nodes are of 4 KiB, so that a few hundred inodes make trees of several levels.
"""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

from . import images, kernel, powerloss
from .populate import BLOCK, Filler, compressed_files, names, nocow, plain_files, populate, snapshots, subvolume, xattrs

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

#: With one worker a time, files come to lie in one order, whatever else the machine does; recipes may count on it.
STEADY = ["thread_pool=1"]
#: mkfs leaves free space of block groups that are gone: let the kernel write the tree of free space anew.
NEW_CACHE = ["clear_cache", "space_cache=v2"]


def _mkfs(live: Sequence[str], profile: str, metadata: str, options: Sequence[str] = ()) -> None:
    """Run mkfs.btrfs so that block groups stand in the extent tree, whatever its version makes of its own accord."""
    known = subprocess.run(["mkfs.btrfs", "-O", "list-all"], capture_output=True, text=True, check=True)
    modern = ["--features", "^block-group-tree"] if "block-group-tree " in known.stdout + known.stderr else []
    images.mkfs(live, profile, metadata, 4096, [*modern, *options])


def rich(directory: str) -> Sequence[str]:
    """Make one of everything: what populate() writes, quota groups of two levels, and an orphan; one device."""
    live = images.new_devices(os.path.join(directory, "live"), 1, 256 * images.MIB)
    _mkfs(live, "single", "dup")
    with kernel.mount(live, options=[*STEADY, *NEW_CACHE]) as top:
        populate(top, steady=True)
        fill = Filler(top, steady=True)
        most_sums(fill)
        kernel.run("btrfs", "quota", "enable", top)
        kernel.run("btrfs", "quota", "rescan", "--wait", top)  # that of "enable", which knows no groups of groups
        kernel.run("btrfs", "qgroup", "create", "1/100", top)
        for child in ("0/256", "0/257"):
            kernel.run("btrfs", "qgroup", "assign", "--no-rescan", child, "1/100", top)
        kernel.run("btrfs", "qgroup", "limit", "64M", "1/100", top)
        kernel.run("btrfs", "quota", "rescan", "--wait", top)
        return _with_orphan(fill, live, directory)


def most_sums(fill: Filler) -> None:
    """Write what has as many checksums as fit into one item, and between what is preallocated, beside no others."""
    most = (4096 - 101 - 2 * 25) // 4 - 1  # nodesize, header, slots; fs/btrfs/file-item.c MAX_CSUM_ITEMS
    kernel.fallocate(fill.path(b"most-sums"), 0, 0, (most + 2) * BLOCK)
    fill.write(b"most-sums", fill.noise(most * BLOCK), BLOCK)


def raid(directory: str) -> Sequence[str]:
    """Make a filesystem on five devices: three copies of metadata, data with P and Q."""
    live = images.new_devices(os.path.join(directory, "live"), 5, 256 * images.MIB)
    _mkfs(live, "raid6", "raid1c3")
    with kernel.mount(live, options=[*STEADY, *NEW_CACHE]) as top:
        fill = Filler(top, steady=True)
        plain_files(fill)
        compressed_files(fill)
        nocow(fill)
        subvolume(fill)
        snapshots(fill)
        return _with_orphan(fill, live, directory)


def old(directory: str) -> Sequence[str]:
    """Make a filesystem as of 2012: a v1 space cache, explicit holes, extent items of tree blocks by their length."""
    # The kernel caches free space of no block group below 100 MiB.
    live = images.new_devices(os.path.join(directory, "live"), 1, 2048 * images.MIB)
    options = ["--features", "^no-holes,^skinny-metadata", "--runtime-features", "^free-space-tree"]
    _mkfs(live, "single", "dup", options)
    with kernel.mount(live, options=[*STEADY, "space_cache=v1"]) as top:
        fill = Filler(top, steady=True)
        plain_files(fill)
        for number in range(3):
            for block in (3, 9, 64 + number):
                fill.write(b"holes/%d" % number, fill.noise(2 * BLOCK), block * BLOCK)
            os.truncate(fill.path(b"holes/%d" % number), 100 * BLOCK + number)
        names(fill)
        xattrs(fill)
        subvolume(fill)
        snapshots(fill)
        return _with_orphan(fill, live, directory)


def log(directory: str) -> Sequence[str]:
    """Make a filesystem whose power was cut after fsync() and before the commit: log trees of two subvolumes."""
    return powerloss.make_cut_image(directory, profile="dup", nodesize=4096, options=[*STEADY, *NEW_CACHE]).devices


def _with_orphan(fill: Filler, live: Sequence[str], directory: str) -> Sequence[str]:
    """Copy the devices of a mounted filesystem while an unlinked file is still open."""
    fill.write(b"orphan", fill.noise(9 * BLOCK))
    with kernel.opened(fill.path(b"orphan")):
        os.unlink(fill.path(b"orphan"))
        fill.sync()
        return images.copy_sparse(live, directory)


BASES: dict[str, Callable[[str], Sequence[str]]] = {"rich": rich, "raid": raid, "old": old, "log": log}
