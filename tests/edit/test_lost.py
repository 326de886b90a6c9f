"""Devices that have lost all their superblocks get those of the others, with their own device items."""

from __future__ import annotations

import os
from filecmp import cmp
from typing import TYPE_CHECKING

import pytest
from support import images, kernel
from support.fresh import make_empty_on
from support.judges import complaints, complaints_of_btrimg
from support.program import btrimg
from support.truth import lasting, record

from btrimg.filesystem.image import device_items, open_image
from btrimg.ondisk.constants import SUPERBLOCK_OFFSETS, SUPERBLOCK_SIZE, TreeId
from btrimg.volume.device import Device
from btrimg.volume.superblocks import read_copies

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from support.images import KernelImage

MIB = 1 << 20


def forget(path: str) -> None:
    """Overwrite all superblocks of a device."""
    with Device(path) as device, open(path, "r+b") as file:
        for offset in SUPERBLOCK_OFFSETS:
            if offset + SUPERBLOCK_SIZE <= device.size:
                file.seek(offset)
                file.write(b"\xa5" * SUPERBLOCK_SIZE)


def repair(devices: Sequence[str], *options: object) -> tuple[int, str]:
    """Run ``super repair``; return its exit code, and what it says, but for warnings."""
    further = [word for device in devices[1:] for word in ("-d", device)]
    done = btrimg("edit", devices[0], *further, *options, "super", "repair")
    return done.returncode, "".join(line for line in done.stderr.splitlines(True) if "warning" not in line)


@pytest.fixture
def five(tmp_path: Path) -> list[str]:
    """Give the devices of a filesystem: metadata are on the third and the fourth, the fifth has room for data alone."""
    paths = [str(tmp_path / f"{number}.img") for number in (1, 2, 3, 4, 5)]
    make_empty_on(paths, 40 * MIB, metadata="raid1", nodesize=4096)
    return paths


@pytest.mark.kernel
@pytest.mark.progs
def test_devices_are_known_by_what_lies_on_them(kernel_image: Callable[..., KernelImage], tmp_path: Path) -> None:
    made = kernel_image(profile="raid6", nodesize=4096)
    devices = made.copy(str(tmp_path))
    before = complaints(devices)
    with open_image(devices) as image:
        items = {item.devid: item for _, item in device_items(image.tree(TreeId.CHUNK_TREE))}
    for path in devices[1:3]:
        forget(path)
    assert repair([devices[2], devices[0], devices[1], *devices[3:]]) == (0, "")
    for devid, path in enumerate(devices, 1):
        with Device(path) as device:
            copies = read_copies(device)
        assert [copy.fault for copy in copies] == [None] * len(copies)
        assert {copy.superblock.dev_item for copy in copies if copy.superblock} == {items[devid]}
    assert complaints(devices) == before
    with kernel.mount(devices) as top:
        assert lasting(record(top)) == lasting(made.truth)


def test_one_of_which_nothing_is_promised_is_known_as_the_last(five: list[str], tmp_path: Path) -> None:
    whole = images.copy_sparse(five, str(tmp_path / "whole"))
    forget(five[4])
    broken = images.copy_sparse(five, str(tmp_path / "broken"))
    assert repair(five) == (0, "")
    assert complaints_of_btrimg(five) == []
    assert all(cmp(path, was, shallow=False) for path, was in zip(five, whole, strict=True))
    further = [word for device in five[:4] for word in ("-d", device)]
    undone = btrimg("undo", five[4], five[0] + ".undo", *further)
    assert undone.returncode == 0, undone.stderr
    assert all(cmp(path, was, shallow=False) for path, was in zip(five, broken, strict=True))


def test_what_holds_nothing_of_a_device_is_that_only_when_told(five: list[str], tmp_path: Path) -> None:
    (tmp_path / "4.img").write_bytes(bytes(40 * MIB))
    code, said = repair(five)
    assert code == 1
    assert "holds nothing of what device 4, which is missing, should hold; --force makes it" in said
    assert not os.path.exists(five[0] + ".undo")
    forget(five[4])
    code, said = repair(five, "--force")
    assert (code, "nothing on it tells which device it was; missing are 4, 5" in said) == (1, True)
    code, said = repair(five[:4])
    assert (code, "nothing on it tells which device it was; missing are 4, 5" in said) == (1, True)


def test_zeros_tell_nothing(five: list[str], tmp_path: Path) -> None:
    """A device on which nothing was ever written has all the zeros that are promised, and is none for that."""
    (tmp_path / "data").write_bytes(bytes(256 << 10) + os.urandom(256 << 10))
    further = [word for device in five[1:] for word in ("-d", device)]
    assert btrimg("edit", five[0], *further, "put", tmp_path / "data", "/data").returncode == 0
    with open_image(five) as image:
        devids = {place.devid for at in (0, 256 << 10) for place in image.open(b"/data").resolve(at).copies}
    (devid,) = devids
    assert devid > 1, "not the one that tells of the image"
    (tmp_path / f"{devid}.img").write_bytes(bytes(40 * MIB))
    code, said = repair(five)
    assert (code, f"holds nothing of what device {devid}, which is missing, should hold" in said) == (1, True), said


def test_a_device_that_is_new_is_told_to_be_the_one_that_is_missing(five: list[str], tmp_path: Path) -> None:
    (tmp_path / "4.img").write_bytes(bytes(40 * MIB))
    assert repair(five, "--force") == (0, "")
    further = [word for device in five[1:] for word in ("-d", device)]
    assert btrimg("edit", five[0], *further, "scrub").returncode == 0
    assert complaints_of_btrimg(five) == []


def test_it_is_refused_where_it_cannot_be(five: list[str]) -> None:
    forget(five[3])
    os.truncate(five[3], 39 * MIB)
    code, said = repair(five)
    assert (code, f"device 4 has {40 * MIB} bytes, {five[3]} only {39 * MIB}" in said) == (2, True), said
    further = [word for device in five[1:] for word in ("-d", device)]
    done = btrimg("edit", five[0], *further, "super", "repair", "--from-mirror", "0")
    assert (done.returncode, "has no sound superblock, not mirror 0 either" in done.stderr) == (2, True)
    for path in five:
        forget(path)
    code, said = repair(five)
    assert (code, "has no sound superblock" in said) == (1, True), said
