"""Device sets as they are in life: one missing, one that was away, one removed, a seed with its sprout."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from support import images, kernel
from support.broken import findings
from support.populate import Filler

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

pytestmark = pytest.mark.kernel


@pytest.fixture
def mirrored(tmp_path: Path) -> Sequence[str]:
    """Give three devices of a raid1."""
    devices = images.new_devices(str(tmp_path), 3, 512 * images.MIB)
    images.mkfs(devices, "raid1")
    with kernel.mount(devices, options=["clear_cache", "space_cache=v2"]) as top:  # what mkfs left there is a warning
        write(top, b"first")
    return devices


def write(top: str, name: bytes) -> None:
    fill = Filler(top)
    for number in range(50):
        fill.write(b"%s/%d" % (name, number), fill.noise(50_000))


def test_a_device_that_is_missing_is_no_fault(mirrored: Sequence[str]) -> None:
    for number in range(3):
        assert findings([*mirrored[:number], *mirrored[number + 1 :]]) == set()


def test_a_device_that_was_away_has_stale_superblocks(mirrored: Sequence[str], tmp_path: Path) -> None:
    with kernel.loop_devices(mirrored[:2]) as (first, second):
        where = str(tmp_path / "mnt")
        os.mkdir(where)
        kernel.run("mount", "-t", "btrfs", "-o", f"degraded,device={second}", first, where)
        try:
            write(where, b"second")
        finally:
            kernel.run("umount", where)
    assert findings(mirrored[:2]) == set()
    assert findings(mirrored) == {"super-stale"}


def test_a_device_that_was_removed_is_none_of_the_filesystem(mirrored: Sequence[str]) -> None:
    with kernel.mount(mirrored) as top:
        kernel.run("btrfs", "device", "remove", "2", top)
        kernel.run("btrfs", "filesystem", "resize", "1:400m", top)
    assert findings([mirrored[0], mirrored[2]]) == set()


def test_a_sprout_counts_its_seed(tmp_path: Path) -> None:
    devices = images.new_devices(str(tmp_path), 2, 300 * images.MIB)
    images.mkfs(devices[:1])
    with kernel.mount(devices[:1], options=["clear_cache", "space_cache=v2"]) as top:
        write(top, b"seed")
    kernel.run("btrfstune", "-S", "1", devices[0])
    with kernel.loop_devices(devices[1:]) as (sprout,), kernel.mount(devices[:1]) as top:
        kernel.run("btrfs", "device", "add", "-f", sprout, top)
        kernel.remount(top, "rw")
        write(top, b"sprout")
    assert findings(devices) == set()
    assert findings(devices[:1]) == set()
