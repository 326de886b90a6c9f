"""New devices take their names when all is written; when anything fails nothing is left, and nothing is lost."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
from support import kernel
from support.synthetic import MIB, Spec, chunk, make_device, sealed, superblock

from btrimg.errors import DeviceError
from btrimg.ondisk.constants import SUPERBLOCK_OFFSETS
from btrimg.volume.device import Device
from btrimg.volume.fresh import block_size, fresh_devices
from btrimg.volume.superblocks import has_superblock

if TYPE_CHECKING:
    from pathlib import Path

BLOCK = sealed(superblock(Spec("dev1", 1), {0: chunk(0, 1, MIB)}, bytenr=SUPERBLOCK_OFFSETS[0]))


def names(directory: Path) -> list[str]:
    return sorted(entry.name for entry in directory.iterdir())


def test_files_take_their_names_at_the_end(tmp_path: Path) -> None:
    outputs = [str(tmp_path / name) for name in ("a.img", "b.img")]
    with fresh_devices(outputs, [100 * MIB, 7 * MIB]) as fresh:
        assert {devid: device.size for devid, device in fresh.devices.items()} == {1: 100 * MIB, 2: 7 * MIB}
        fresh.sink.pwrite(1, 99 * MIB, b"far")
        assert fresh.devices[1].pread(4, 99 * MIB) == b"far\0"
        fresh.resize(2, 3 * MIB)
        with pytest.raises(DeviceError, match=f"ends at {3 * MIB}"):
            fresh.sink.pwrite(2, 4 * MIB, b"beyond")
        assert names(tmp_path) == ["a.img.partial", "b.img.partial"]
    assert names(tmp_path) == ["a.img", "b.img"]
    assert [os.stat(output).st_size for output in outputs] == [100 * MIB, 3 * MIB]
    assert os.stat(outputs[0]).st_blocks * 512 < MIB, "it is sparse"
    assert os.stat(outputs[0]).st_mode & 0o777 == os.stat(make_device(tmp_path, Spec("dev1", 1), {})).st_mode & 0o777


def test_after_a_failure_all_is_as_it_was(tmp_path: Path) -> None:
    old, new = tmp_path / "old.img", tmp_path / "new.img"
    old.write_bytes(b"mine")
    making = fresh_devices([str(old), str(new)], [MIB, MIB], force=True)
    with suppress(KeyboardInterrupt), making as fresh:
        fresh.sink.pwrite(1, 0, b"half of it")
        raise KeyboardInterrupt
    assert names(tmp_path) == ["old.img"]
    assert old.read_bytes() == b"mine"
    with pytest.raises(DeviceError, match="cannot give"), fresh_devices([str(new)], [1 << 62]):
        pass
    assert names(tmp_path) == ["old.img"]


def test_a_file_is_replaced_only_by_force(tmp_path: Path) -> None:
    old, link = tmp_path / "old.img", tmp_path / "link.img"
    old.write_bytes(b"mine")
    link.symlink_to("old.img")
    with pytest.raises(DeviceError, match=r"link\.img exists; name a new file, or give --force to replace it"):
        fresh_devices([str(link)], [MIB]).__enter__()
    with fresh_devices([str(link)], [MIB], force=True) as fresh:
        fresh.sink.pwrite(1, 0, b"yours")
        assert old.read_bytes() == b"mine", "until the end"
    assert link.is_symlink()
    assert old.read_bytes()[:6] == b"yours\0"
    assert names(tmp_path) == ["link.img", "old.img"]


@pytest.mark.parametrize(
    ("outputs", "why"),
    [
        (["a.img", "./a.img"], r"/\./a.img is named twice"),
        (["none/a.img"], "cannot make .*none/a.img.partial: No such file or directory"),
        (["", "a.img"], "/ exists; name a new file$"),
        (["busy.img"], "busy.img.partial exists: another program is writing it, or was killed"),
    ],
    ids=["twice", "no directory", "a directory", "half built"],
)
def test_what_cannot_be_made(tmp_path: Path, outputs: list[str], why: str) -> None:
    (tmp_path / "busy.img.partial").touch()
    with pytest.raises(DeviceError, match=why):
        fresh_devices([f"{tmp_path}/{output}" for output in outputs], [MIB] * len(outputs), force=True).__enter__()
    assert names(tmp_path) == ["busy.img.partial"], "that is not ours"


@pytest.mark.kernel
def test_block_devices_are_written_where_they_are(tmp_path: Path) -> None:
    backing, beside = tmp_path / "backing.img", str(tmp_path / "file.img")
    with open(backing, "xb") as file:
        file.truncate(70 * MIB)
    with kernel.loop_devices([str(backing)]) as (loop,):
        assert (block_size(loop), block_size(beside), block_size(str(backing))) == (70 * MIB, None, None)
        with fresh_devices([beside, loop], [MIB, 60 * MIB]) as fresh:
            assert fresh.devices[2].size == 70 * MIB
            for offset in SUPERBLOCK_OFFSETS[:2]:
                fresh.sink.pwrite(2, offset, BLOCK)
            fresh.resize(2, MIB)
            with pytest.raises(DeviceError, match=f"{loop} is a block device of {70 * MIB} bytes, not {71 * MIB}"):
                fresh.resize(2, 71 * MIB)
            assert fresh.devices[2].size == 70 * MIB
        assert names(tmp_path) == ["backing.img", "file.img"]
        assert has_superblock(loop)
        with pytest.raises(DeviceError, match=f"{loop} is not blank: give --force"):
            fresh_devices([loop], [MIB]).__enter__()
        assert has_superblock(loop)
        with suppress(KeyboardInterrupt), fresh_devices([loop], [MIB], force=True) as fresh:
            assert not has_superblock(loop), "wiped at once"
            fresh.sink.pwrite(1, SUPERBLOCK_OFFSETS[0], BLOCK)
            raise KeyboardInterrupt
        assert not has_superblock(loop), "and after a failure"
        with pytest.raises(DeviceError, match=f"{backing} is attached to {loop}"):
            fresh_devices([str(backing)], [MIB], force=True).__enter__()
    with Device(str(backing)) as device:
        assert not any(device.pread(4096, SUPERBLOCK_OFFSETS[1]))
