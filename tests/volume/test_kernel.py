"""Device sets that the kernel made: the bytes at every computed place are the bytes that it wrote."""

from __future__ import annotations

import os
import random
from itertools import combinations
from typing import TYPE_CHECKING

import pytest
from support import kernel
from support.images import DEVICES, mkfs, new_devices

from btrimg.errors import NotFoundError, UnsupportedError
from btrimg.filesystem.image import open_image
from btrimg.ondisk.constants import STRIPE_LEN
from btrimg.units import MIB
from btrimg.volume.device import Device
from btrimg.volume.mounted import find_mounted
from btrimg.volume.parity import compute_p, compute_q
from btrimg.volume.profiles import PROFILES, profile_of

if TYPE_CHECKING:
    from pathlib import Path

    from btrimg.filesystem.image import Image

pytestmark = [pytest.mark.kernel, pytest.mark.progs]

SIZE = 256 * MIB
BY_NAME = {profile.name: profile for profile in PROFILES.values()}


def payload(name: str) -> bytes:
    """Return bytes for a file of many rows that ends amid a sector."""
    return random.Random(name).randbytes(5 * MIB + 4097)


def content(image: Image, path: str) -> bytes:
    inode = image.open(os.path.join(b"/", path.encode()))
    return inode.read(0, inode.item.size)


def write_files(top: str) -> dict[str, list[kernel.FiemapRow]]:
    for name in ("a", "b"):
        with open(os.path.join(top, name), "wb") as file:
            file.write(payload(name))
    kernel.sync(top)
    return {name: list(kernel.fiemap(os.path.join(top, name))) for name in ("a", "b")}


@pytest.mark.parametrize("name", BY_NAME)
def test_every_copy_and_the_parity_lie_where_they_are_said_to(name: str, tmp_path: Path) -> None:
    paths = new_devices(str(tmp_path), DEVICES[name], SIZE)
    mkfs(paths, name)
    with kernel.mount(paths) as top:
        written = write_files(top)
    with open_image(paths, warn=pytest.fail) as image:
        volume = image.volume
        for file, rows in written.items():
            stored, seen = payload(file), 0
            for row in rows:
                chunk = volume.chunk_map.find(row.logical)
                assert profile_of(chunk.type) == BY_NAME[name]
                done = 0
                while done < row.length:
                    mapping = volume.chunk_map.locate(row.logical + done)
                    length = min(mapping.length, row.length - done)
                    expected = stored[row.offset + done :][:length].ljust(length, b"\0")
                    assert len(mapping.copies) == BY_NAME[name].copies
                    for place in mapping.copies:
                        assert volume.devices[place.devid].pread(length, place.physical) == expected
                    assert list(volume.candidates(row.logical + done, length)) == [expected]
                    done += length
                    seen += length
            assert seen >= len(stored)


@pytest.mark.parametrize("name", ["raid5", "raid6"])
def test_parity_is_that_of_its_row(name: str, tmp_path: Path) -> None:
    paths = new_devices(str(tmp_path), DEVICES[name], SIZE)
    mkfs(paths, name)
    with kernel.mount(paths) as top:
        written = write_files(top)
    with open_image(paths, warn=pytest.fail) as image:
        volume = image.volume
        turned = set()
        for row in written["a"]:
            for logical in range(row.logical, row.logical + row.length, STRIPE_LEN):
                chunk = volume.chunk_map.find(logical)
                places = chunk.row(logical).places
                columns = [volume.devices[place.devid].pread(4096, place.physical) for place in places]
                data = columns[: len(columns) - chunk.profile.parity]
                assert columns[len(data) :] == [compute_p(data), compute_q(data)][: chunk.profile.parity]
                turned.add(places[-1].devid)
        assert turned == set(volume.devices), "parity was on every device"


@pytest.mark.parametrize("name", [name for name, profile in BY_NAME.items() if profile.tolerated])
def test_any_tolerated_devices_may_be_missing(name: str, tmp_path: Path) -> None:
    paths = new_devices(str(tmp_path), DEVICES[name], SIZE)
    mkfs(paths, name)
    with kernel.mount(paths) as top:
        write_files(top)
    for lost in combinations(range(len(paths)), BY_NAME[name].tolerated):
        said: list[str] = []
        with open_image([path for n, path in enumerate(paths) if n not in lost], warn=said.append) as image:
            for file in ("a", "b"):
                assert content(image, file) == payload(file), lost
        assert len(said) == len(lost)


@pytest.mark.parametrize("first", [0, 1])
def test_a_sprout_reads_through_its_seeds(tmp_path: Path, first: int) -> None:
    """A seed of two devices, a sprout that was made a seed in its turn, and a sprout on top."""
    paths = new_devices(str(tmp_path), 4, SIZE)
    mkfs(paths[:2], "raid0", "dup")
    with kernel.mount(paths[:2]) as top:
        write_file(top, "low")
    for number, name in ((2, "middle"), (3, "top")):
        with kernel.loop_devices(paths[: number + 1]) as devices:
            kernel.run("btrfs", "device", "scan", *devices[:-1])
            kernel.run("btrfstune", "-f", "-S", "1", devices[-2])
            sprout(devices, str(tmp_path), name)
    order = [*paths[first:4], *paths[:first]]
    with open_image(order, warn=pytest.fail) as image:
        assert sorted(image.volume.devices) == [1, 2, 3, 4]
        assert len(image.volume.fsids) == 3
        for name in ("low", "middle", "top"):
            assert content(image, name) == payload(name)
    with open_image(paths[:2], warn=pytest.fail) as image:
        assert content(image, "low") == payload("low")


def write_file(top: str, name: str) -> None:
    with open(os.path.join(top, name), "wb") as file:
        file.write(payload(name))
    kernel.sync(top)


def sprout(devices: list[str], directory: str, name: str) -> None:
    """Mount all but the last device, all seeds, add the last one and write to it."""
    where = os.path.join(directory, "mnt")
    os.makedirs(where, exist_ok=True)
    kernel.run("mount", "-t", "btrfs", devices[-2], where)
    try:
        kernel.run("btrfs", "device", "add", "-f", devices[-1], where)
        kernel.run("mount", "-o", "remount,rw", where)
        write_file(where, name)
    finally:
        kernel.run("umount", where)


def test_a_device_added_between_two_that_are_removed_leaves_gaps_in_the_devids(tmp_path: Path) -> None:
    paths = new_devices(str(tmp_path), 4, SIZE)
    mkfs(paths[:3], "raid1")
    with kernel.loop_devices(paths[3:]) as (extra,), kernel.mount(paths[:3]) as top:
        write_file(top, "a")
        kernel.run("btrfs", "device", "add", "-f", extra, top)
        kernel.run("btrfs", "device", "remove", "2", top)
        kernel.sync(top)
    with open_image([paths[3], paths[2], paths[0]], warn=pytest.fail) as image:
        assert {devid: device.path for devid, device in image.volume.devices.items()} == {
            1: paths[0],
            3: paths[2],
            4: paths[3],
        }
        assert content(image, "a") == payload("a")


def test_a_mounted_block_device_is_read_as_it_is_now(tmp_path: Path) -> None:
    paths = new_devices(str(tmp_path), 1, SIZE)
    mkfs(paths)
    with kernel.mount(paths) as top:
        for text in (b"first" * 1000, b"second" * 1000):
            with open(os.path.join(top, "file"), "wb") as file:
                file.write(text)
            found = find_mounted(os.fsencode(os.path.join(top, "file")))
            with open_image(found.devices, warn=pytest.fail) as image:
                assert content(image, os.fsdecode(found.path)) == text


def test_a_mounted_path_is_found_inside(tmp_path: Path) -> None:
    paths = new_devices(str(tmp_path), 3, SIZE)
    mkfs(paths, "raid1")
    with kernel.mount(paths) as top:
        where = os.fsencode(top)
        odd = b"sub vol\\\n\xff"
        kernel.create_subvolume(where + b"/" + odd)
        os.mkdir(where + b"/" + odd + b"/dir")
        kernel.create_subvolume(where + b"/" + odd + b"/dir/nested")
        inner = odd + b"/dir/nested/file"
        with open(where + b"/" + inner, "wb") as file:
            file.write(b"x")
        os.mkfifo(where + b"/fifo")
        os.symlink(b"dir/nested/file", where + b"/" + odd + b"/link")
        found = find_mounted(where + b"/" + inner)
        assert found.path == b"/" + inner
        assert len(found.devices) == 3
        assert find_mounted(where).path == b"/"
        assert find_mounted(where + b"/fifo").path == b"/fifo"
        assert find_mounted(where + b"/" + odd + b"/link").path == b"/" + inner
        bind = os.fsencode(str(tmp_path)) + b"/bind \t\\040"
        os.mkdir(bind)
        kernel.run("mount", "--bind", os.fsdecode(where + b"/" + odd), os.fsdecode(bind))
        try:
            assert find_mounted(bind + b"/dir/nested/file") == found
            assert find_mounted(bind).path == b"/" + odd
        finally:
            kernel.run("umount", os.fsdecode(bind))
        with pytest.raises(NotFoundError, match="No such file"):
            find_mounted(where + b"/none")
        with pytest.raises(NotFoundError, match="Not a directory"):
            find_mounted(where + b"/" + inner + b"/below")
        with pytest.raises(UnsupportedError, match="is on proc, not on btrfs"):
            find_mounted(b"/proc/self/stat")


def test_a_block_device_has_the_size_of_its_image(tmp_path: Path) -> None:
    paths = new_devices(str(tmp_path), 1, SIZE)
    with kernel.loop_devices(paths) as (loop,), Device(loop) as device:
        assert device.size == SIZE
        assert device.pread(512, SIZE - 512) == bytes(512)
