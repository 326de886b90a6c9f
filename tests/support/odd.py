"""Filesystems with the items that populate() does not make: quotas, balance, replaced devices, received subvolumes."""

from __future__ import annotations

import os
import subprocess
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from . import images, kernel
from .populate import BLOCK, Filler

if TYPE_CHECKING:
    from collections.abc import Sequence

LONGEST = (1 << 63) - 1  #: bytes of a file (loff_t)


def quotas(directory: str) -> Sequence[str]:
    """Make quota groups of two levels with limits, over subvolumes and a snapshot."""
    devices = images.new_devices(directory, 1, 256 * images.MIB)
    images.mkfs(devices, "dup")
    with kernel.mount(devices) as top:
        fill = Filler(top)
        for name in (b"one", b"two"):
            kernel.create_subvolume(fill.path(name))
            fill.write(name + b"/file", fill.noise(100_000))
        kernel.run("btrfs", "quota", "enable", top)
        kernel.create_snapshot(fill.path(b"one"), fill.path(b"snapshot"), read_only=False)
        for group in ("1/100", "2/7"):
            kernel.run("btrfs", "qgroup", "create", group, top)
        for child, parent in (("0/256", "1/100"), ("0/257", "1/100"), ("1/100", "2/7")):
            kernel.run("btrfs", "qgroup", "assign", "--no-rescan", child, parent, top)
        kernel.run("btrfs", "qgroup", "limit", "64M", "1/100", top)
        kernel.run("btrfs", "qgroup", "limit", "-e", "32M", "0/256", top)
        fill.write(b"snapshot/file", fill.noise(5 * BLOCK), 3 * BLOCK)
        kernel.run("btrfs", "quota", "rescan", "-w", top)
    return devices


def simple_quotas(directory: str) -> Sequence[str]:
    """Make simple quotas, for which extents name the subvolume that wrote them; needs btrfs-progs 6.7."""
    devices = images.new_devices(directory, 1, 256 * images.MIB)
    images.mkfs(devices, "dup")
    with kernel.mount(devices) as top:
        fill = Filler(top)
        kernel.run("btrfs", "quota", "enable", "--simple", top)
        kernel.create_subvolume(fill.path(b"one"))
        fill.write(b"one/file", fill.noise(100_000))
        kernel.create_snapshot(fill.path(b"one"), fill.path(b"snapshot"), read_only=False)
        fill.write(b"snapshot/file", fill.noise(5 * BLOCK), 3 * BLOCK)
    return devices


def received(directory: str) -> Sequence[str]:
    """Send a snapshot and receive it again; keep the v1 space cache; have a metadata uuid."""
    # The kernel caches free space of no block group below 100 MiB: mkfs made smaller ones, which must be filled first.
    devices = images.new_devices(directory, 1, 2048 * images.MIB)
    images.mkfs(devices, "single", options=["-R", "^free-space-tree", "-L", "odd label\t"])
    kernel.run("btrfstune", "-m", devices[0])
    stream = os.path.join(directory, "stream")
    with kernel.mount(devices, options=["space_cache=v1"]) as top:
        fill = Filler(top)
        kernel.create_subvolume(fill.path(b"sent"))
        for number in range(50):
            fill.write(b"sent/%02d" % number, fill.noise(number * 9999))
        fill.sync()
        kernel.create_snapshot(fill.path(b"sent"), fill.path(b"snapshot"), read_only=True)
        fill.mkdir(b"received")
        kernel.run("btrfs", "send", "--quiet", "-f", stream, f"{top}/snapshot")
        kernel.run("btrfs", "receive", "--quiet", "-f", stream, f"{top}/received")
    return devices


def cached(directory: str) -> Sequence[str]:
    """Keep a v1 space cache with entries of several pages and a bitmap."""
    devices = images.new_devices(directory, 1, 2048 * images.MIB)
    images.mkfs(devices, "single", options=["-R", "^free-space-tree"])
    for _ in range(2):  # the kernel does not write the cache of a block group in the mount that made it
        with kernel.mount(devices, options=["space_cache=v1"]) as top:
            fill = Filler(top)
            for number in range(5000):
                fill.write(b"many/%04d" % number, fill.noise(2 * BLOCK))
            fill.sync()
            for number in range(0, 5000, 2):
                os.unlink(fill.path(b"many/%04d" % number))
            fill.sync()
    return devices


def longest(directory: str) -> Sequence[str]:
    """Have holes and data in the last sector that a file may have, of which the last byte is none of the file's."""
    devices = images.new_devices(directory, 1, 256 * images.MIB)
    images.mkfs(devices, "dup", options=["-O", "^no-holes"])
    with kernel.mount(devices) as top:
        fill = Filler(top)
        fill.write(b"hole", b"")
        os.truncate(fill.path(b"hole"), LONGEST)
        fill.write(b"data", fill.noise(100), LONGEST - BLOCK + 1)
        fill.write(b"both", fill.noise(100), LONGEST // 2)
        os.truncate(fill.path(b"both"), LONGEST)
    return devices


def replaced(directory: str) -> Sequence[str]:
    """Replace one of three devices, reset the error counters, and leave free space as bitmaps."""
    *devices, fresh = images.new_devices(directory, 4, 256 * images.MIB)
    images.mkfs(devices, "raid1", options=["-R", "free-space-tree"])
    with kernel.loop_devices([fresh]) as (target,), kernel.mount(devices) as top:
        fill = Filler(top)
        for number in range(2000):
            fill.write(b"many/%04d" % number, fill.noise(BLOCK))
        fill.sync()
        for number in range(0, 2000, 2):
            os.unlink(fill.path(b"many/%04d" % number))
        kernel.run("btrfs", "replace", "start", "-B", "-f", "2", target, top)
        kernel.run("btrfs", "device", "stats", "--reset", top)
    return [devices[0], fresh, devices[2]]


def paused(directory: str) -> Sequence[str]:
    """Pause a balance on its way; block group tree and mixed block groups would not change what it leaves."""
    devices = images.new_devices(directory, 2, 512 * images.MIB)
    images.mkfs(devices, "single", "dup", 4096)
    with kernel.mount(devices) as top:
        fill = Filler(top)
        for number in range(150):
            fill.write(b"%03d/file" % number, fill.noise(1_000_001))
            if number % 10 == 0:
                fill.sync()
        fill.sync()
        for _ in range(20):
            start = ["btrfs", "balance", "start", "--full-balance", top]
            # Not in the background: the filesystem cannot be unmounted before it has ended.
            with subprocess.Popen(start, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL):
                time.sleep(0.02)
                with suppress(RuntimeError):  # it was faster
                    kernel.run("btrfs", "balance", "pause", top)
                    break
    return devices
