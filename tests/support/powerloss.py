"""Leave a filesystem as a power cut does: fsynced but uncommitted changes in the log tree, and an orphan."""

from __future__ import annotations

import os
from contextlib import ExitStack
from typing import TYPE_CHECKING, NamedTuple

from . import images, kernel
from .populate import BLOCK, Filler
from .truth import Truth, record

if TYPE_CHECKING:
    from collections.abc import Sequence


class CutImage(NamedTuple):
    """Image files of one filesystem with a log tree, and what the kernel says of it without and with replay."""

    devices: tuple[str, ...]
    committed: Truth
    replayed: Truth


def make_cut_image(
    directory: str, *, profile: str = "single", nodesize: int = 16384, options: Sequence[str] = ()
) -> CutImage:
    """Make a filesystem, mounted with *options*, whose power was cut after fsync() and before the commit."""
    live = images.new_devices(os.path.join(directory, "live"), images.DEVICES[profile], 256 * images.MIB)
    images.mkfs(live, profile, nodesize=nodesize)
    with ExitStack() as stack:
        top = stack.enter_context(kernel.mount(live, options=options))
        fill = Filler(top)
        for subvolume in (b"", b"sub/"):
            before(fill, subvolume)
        stack.enter_context(kernel.opened(fill.path(b"orphan")))
        os.unlink(fill.path(b"orphan"))
        fill.sync()
        for subvolume in (b"", b"sub/"):
            after(fill, subvolume)
        devices = images.copy_sparse(live, directory)
    replayed = images.copy_sparse(devices, os.path.join(directory, "replayed"))
    with kernel.mount(devices, read_only=True, options=["rescue=nologreplay"]) as top:
        committed = record(top)
    with kernel.mount(replayed) as top:
        return CutImage(devices, committed, record(top))


def before(fill: Filler, top: bytes) -> None:
    """Write what is committed: in the top-level subvolume and in another one, which has a log of its own."""
    if top:
        kernel.create_subvolume(fill.path(top.rstrip(b"/")))
    for name in (b"appended", b"overwritten", b"truncated", b"punched", b"renamed", b"linked", b"never-synced"):
        fill.write(top + name, fill.noise(20 * BLOCK + 5))
    fill.write(top + b"orphan", fill.noise(9 * BLOCK))
    fill.write(top + b"inline", fill.noise(99))
    fill.write(top + b"dir/deleted", fill.noise(99))
    os.setxattr(fill.path(top + b"linked"), b"user.gone", b"old")


def after(fill: Filler, top: bytes) -> None:
    """Change all of that and fsync it, but for one file."""
    fill.write(top + b"appended", fill.noise(5000), 20 * BLOCK + 5)
    fill.write(top + b"overwritten", fill.noise(3 * BLOCK), 7 * BLOCK)
    os.truncate(fill.path(top + b"truncated"), 5 * BLOCK + 7)
    kernel.fallocate(fill.path(top + b"punched"), kernel.PUNCH_HOLE | kernel.KEEP_SIZE, 3 * BLOCK, 4 * BLOCK)
    kernel.fallocate(fill.path(top + b"preallocated"), 0, 0, 10 * BLOCK)
    fill.write(top + b"inline", fill.noise(77), 10)
    fill.write(top + b"new", fill.noise(6 * BLOCK + 1))
    os.mkdir(fill.path(top + b"new-dir"))
    fill.write(top + b"new-dir/inside", fill.text(500))
    os.setxattr(fill.path(top + b"linked"), b"user.new", b"value")
    os.removexattr(fill.path(top + b"linked"), b"user.gone")
    os.link(fill.path(top + b"linked"), fill.path(top + b"linked-too"))
    os.rename(fill.path(top + b"renamed"), fill.path(top + b"renamed-to"))
    os.unlink(fill.path(top + b"dir/deleted"))
    names = b"appended overwritten truncated punched preallocated inline new new-dir/inside linked renamed-to dir"
    for name in names.split():
        with kernel.opened(fill.path(top + name)) as fd:
            os.fsync(fd)
    fill.write(top + b"never-synced", fill.noise(BLOCK), BLOCK)
