"""Devices made smaller and larger: every file stays, the checkers are content, and the kernel goes on living there."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest
from support import images, kernel
from support.afterlife import live_on
from support.crash import Recorder, crashes
from support.fresh import make_empty_on
from support.judges import complaints, complaints_of_btrimg
from support.truth import lasting, record

from btrimg.edit.resize import resize
from btrimg.edit.sizes import NewSize, parse_new_size
from btrimg.errors import NoSpaceError, NotFoundError, RefusedError
from btrimg.filesystem.image import device_items, open_image
from btrimg.ondisk.constants import SUPERBLOCK_OFFSETS, TreeId
from btrimg.volume.superblocks import read_copies
from edit.plain import editing

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from support.images import KernelImage

MIB = 1 << 20


def resize_all(devices: Sequence[str], size: int) -> None:
    for devid in range(1, len(devices) + 1):
        with editing(devices) as session:
            assert resize(session, NewSize(devid, 0, size)) == (devid, size)


def mapped(devices: Sequence[str]) -> list[tuple[int, int]]:
    with open_image(devices) as image:
        return [(chunk.logical, chunk.length) for chunk in image.volume.chunk_map]


def sizes_told(devices: Sequence[str]) -> set[int]:
    """Return the sizes of all devices by their files, their items and their superblocks."""
    with open_image(devices) as image:
        items = dict(device_items(image.tree(TreeId.CHUNK_TREE)))
        volume = image.volume
        assert image.superblock.total_bytes == sum(item.total_bytes for item in items.values())
        own = {
            copy.superblock.dev_item.total_bytes
            for device in volume.devices.values()
            for copy in read_copies(device)
            if copy.superblock
        }
        return own | {item.total_bytes for item in items.values()} | {os.path.getsize(path) for path in devices}


CELLS: tuple[dict[str, Any], ...] = (
    {"profile": "raid0", "metadata_profile": "raid1c3", "compression": "zstd"},
    {"profile": "raid6", "nodesize": 4096},
)


@pytest.mark.kernel
@pytest.mark.progs
@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: cell["profile"])
def test_a_smaller_filesystem_has_all_its_files_and_a_larger_one_again(
    kernel_image: Callable[..., KernelImage], tmp_path: Path, cell: dict[str, Any]
) -> None:
    """Reflinks, snapshots, bookends, compressed, inline, preallocated and nodatacow data are in all of these."""
    made = kernel_image(**cell, size=1024 * MIB)
    devices = made.copy(str(tmp_path))
    faults = complaints(devices)
    resize_all(devices, 400 * MIB)
    assert sizes_told(devices) == {400 * MIB}
    assert complaints(devices) == faults
    with kernel.mount(devices, read_only=True) as top:
        assert lasting(record(top)) == lasting(made.truth), "all files are where they were, and at the same addresses"
    resize_all(devices, 900 * MIB)
    assert sizes_told(devices) == {900 * MIB}
    with kernel.mount(devices) as top:
        shown = kernel.run("btrfs", "filesystem", "show", "--raw", top)
        assert shown.count(f"size {900 * MIB} ") == len(devices), "the kernel sees it so"
        live_on(top)
    assert [each for each in complaints(devices) if each not in faults] == []


@pytest.mark.kernel
@pytest.mark.progs
def test_as_small_as_it_gets(kernel_image: Callable[..., KernelImage], tmp_path: Path) -> None:
    """In steps, until there is no room: what is refused has changed nothing, and what was done is whole."""
    made = kernel_image(profile="dup", size=1024 * MIB)
    devices = made.copy(str(tmp_path))
    faults, (path,) = complaints_of_btrimg(devices), devices
    moved, size = 0, 100 * MIB
    while size:
        before = mapped(devices)
        try:
            with editing(devices) as session:
                resize(session, NewSize(1, 0, size))
                moved += session.written
        except NoSpaceError:
            break
        size -= 10 * MIB
    assert size, "not all of it fits into nothing"
    assert (os.path.getsize(path), mapped(devices)) == (size + 10 * MIB, before)
    assert moved > 2 * MIB
    assert [each for each in complaints(devices) if each not in faults] == []
    with kernel.mount(devices, read_only=True) as top:
        assert lasting(record(top)) == lasting(made.truth)


def test_cut_off_anywhere_it_is_as_before_or_as_after(tmp_path: Path) -> None:
    path = str(tmp_path / "a.img")
    make_empty_on([path], 96 * MIB, metadata="dup", nodesize=4096)
    (copy,) = images.copy_sparse([path], str(tmp_path / "copy"))
    recorders: list[Recorder] = []

    def through(sink: Any) -> Recorder:
        recorders.append(Recorder(sink))
        return recorders[-1]

    with editing([path], through) as session:
        resize(session, NewSize(None, -1, 60 * MIB))
        assert session.commits == 1
    states = set()
    for state in crashes({1: copy}, recorders[0].epochs, 0):
        if state.epoch == 0 and (state.done or 0) % 5:
            continue  # before the first barrier nothing leads to what is written: some of it are enough
        assert [each for each in complaints_of_btrimg([copy]) if not each.startswith("super-")] == [], state
        with open_image(copy, warn=lambda _: None) as image:
            states.add(image.superblock.total_bytes)
    assert states == {96 * MIB, 36 * MIB}


def test_superblocks_come_and_go_with_the_room_for_them(tmp_path: Path) -> None:
    path = str(tmp_path / "a.img")
    make_empty_on([path], 60 * MIB)
    for size, count in ((100 * MIB, 2), (64 * MIB + 4096, 2), (64 * MIB, 1), (65 * MIB, 2), (50 * MIB + 100, 1)):
        with editing([path]) as session:
            assert resize(session, NewSize(None, 0, size)) == (1, size // 4096 * 4096)
            copies = read_copies(session.image.volume.devices[1])
            assert [(each.offset, each.fault) for each in copies] == [(at, None) for at in SUPERBLOCK_OFFSETS[:count]]
        assert sizes_told([path]) == {size // 4096 * 4096}
        assert complaints_of_btrimg([path]) == []


def test_a_size_is_told_in_several_ways(tmp_path: Path) -> None:
    assert parse_new_size("10G") == (None, 0, 10 << 30)
    assert parse_new_size("3:+512M") == (3, 1, 512 * MIB)
    assert parse_new_size("-1KiB") == (None, -1, 1024)
    assert parse_new_size("2:max") == (2, 0, None)
    for wrong in ("", "x:1G", "1:", "+", "-max", "1G5", "1:2:3"):
        with pytest.raises(ValueError, match=r"."):
            parse_new_size(wrong)
    path = str(tmp_path / "a.img")
    make_empty_on([path], 60 * MIB)
    os.truncate(path, 80 * MIB)
    with editing([path]) as session:
        assert resize(session, parse_new_size("max")) == (1, 80 * MIB)
        assert resize(session, parse_new_size("1:-10M")) == (1, 70 * MIB)
        assert os.path.getsize(path) == 70 * MIB
        assert resize(session, parse_new_size("+1M")) == (1, 71 * MIB)
        with pytest.raises(NotFoundError, match="there is no device 2; there are 1"):
            resize(session, parse_new_size("2:max"))
        with pytest.raises(RefusedError, match="cannot end at 0"):
            resize(session, parse_new_size("-10G"))
        with pytest.raises(RefusedError, match="no device has"):
            resize(session, NewSize(None, 0, 1 << 63))
        with pytest.raises(NoSpaceError):
            resize(session, NewSize(None, 0, 2 * MIB))
        assert resize(session, parse_new_size("+1M")) == (1, 72 * MIB), "what was refused has changed nothing"
    assert complaints_of_btrimg([path]) == []


def test_with_several_devices_one_must_be_named(tmp_path: Path) -> None:
    paths = [str(tmp_path / f"{number}.img") for number in (1, 2)]
    make_empty_on(paths, 60 * MIB)
    with editing(paths) as session, pytest.raises(RefusedError, match="say which device"):
        resize(session, parse_new_size("max"))
