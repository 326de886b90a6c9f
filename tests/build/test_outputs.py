"""What a build leaves behind: a whole image, or what was there before."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest
from support import kernel
from support.judges import complaints
from support.synthetic import MIB

from btrimg.build.image import build_image
from btrimg.build.recipe import parse_recipe
from btrimg.errors import BtrimgError
from btrimg.filesystem.image import open_image
from btrimg.volume.superblocks import has_superblock

if TYPE_CHECKING:
    from pathlib import Path

    from btrimg.build.image import Built

NOISE = '[[do]]\nfile = "/noise"\nrandom = "{size}"\n'


def build(text: str, *outputs: str, force: bool = False) -> Built:
    recipe = parse_recipe(text.encode(), "recipe.toml")
    return build_image(recipe.filesystem, recipe.operations(), outputs, force=force, warn=pytest.fail)


def names(directory: Path) -> list[str]:
    return sorted(entry.name for entry in directory.iterdir())


@pytest.mark.parametrize(
    ("do", "why"),
    [
        ('[[do]]\ndelete = "/nowhere"', "nowhere"),
        (NOISE.format(size="400M"), "the devices are full: no room for"),
    ],
    ids=["an operation that cannot be done", "no room"],
)
def test_a_build_that_fails_leaves_what_was_there(tmp_path: Path, do: str, why: str) -> None:
    image = tmp_path / "old.img"
    image.write_text("mine")
    text = f'filesystem = {{size = "256M"}}\n{NOISE.format(size="1M")}{do}\n'
    with pytest.raises(BtrimgError, match=f"recipe.toml.*{why}"):
        build(text, str(image), force=True)
    assert image.read_text() == "mine"
    assert names(tmp_path) == ["old.img"]


def test_an_image_that_is_there_is_replaced_by_force_only(tmp_path: Path) -> None:
    outputs = [str(tmp_path / name) for name in ("a.img", "b.img")]
    text = f"filesystem = {{devices = 2}}\n{NOISE.format(size='2M')}"
    build(text, *outputs)
    before = [os.stat(output).st_ino for output in outputs]
    with pytest.raises(BtrimgError, match=r"a\.img exists; name a new file, or give --force to replace it"):
        build(text, *outputs)
    assert [os.stat(output).st_ino for output in outputs] == before
    build(text, *outputs, force=True)
    assert set(before).isdisjoint(os.stat(output).st_ino for output in outputs)
    with pytest.raises(BtrimgError, match="the filesystem has 2 devices, and 1 outputs are named"):
        build(text, str(tmp_path / "c.img"))
    assert names(tmp_path) == ["a.img", "b.img"]


@pytest.mark.kernel
def test_a_block_device_is_filled_and_never_grows(tmp_path: Path) -> None:
    backing = str(tmp_path / "backing.img")
    with open(backing, "xb") as file:
        file.truncate(300 * MIB)
    with kernel.loop_devices([backing]) as (loop,):
        assert build(NOISE.format(size="1M"), loop).sizes == {1: 300 * MIB}
        with pytest.raises(BtrimgError, match=f"{loop} is not blank: give --force"):
            build(NOISE.format(size="1M"), loop)
        with pytest.raises(BtrimgError, match="the devices are full"):
            build(NOISE.format(size="400M"), loop, force=True)
        assert not has_superblock(loop)
        with pytest.raises(BtrimgError, match=f"{loop} is a block device of {300 * MIB} bytes, not {400 * MIB}"):
            build(f'filesystem = {{size = "400M"}}\n{NOISE.format(size="1M")}', loop)
        build(f"filesystem = {{shrink = true}}\n{NOISE.format(size='1M')}", loop)
        assert os.stat(backing).st_size == 300 * MIB
    assert complaints([backing]) == []
    with kernel.mount([backing]) as top, open_image(backing) as image:
        assert image.superblock.total_bytes < 100 * MIB
        with pytest.raises(BtrimgError, match=f"{backing} is attached to"):
            build(NOISE.format(size="1M"), backing, force=True)
        with open(f"{top}/noise", "rb") as file:
            assert file.read() == image.open(b"/noise").read(0, MIB)


def test_a_build_that_is_told_to_stop_leaves_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "btrimg", "build", "--from-tar", "-", "-o", str(tmp_path / "image")]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
        while names(tmp_path) != ["image.partial"]:  # it waits for the archive
            assert process.poll() is None
            time.sleep(0.01)
        process.terminate()
        assert process.wait() == 128 + signal.SIGTERM
    assert names(tmp_path) == []
