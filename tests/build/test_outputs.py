"""What a build leaves behind: a whole image, or what was there before."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tarfile
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


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_build_that_is_told_to_stop_leaves_nothing(tmp_path: Path, stop: signal.Signals) -> None:
    command = [sys.executable, "-m", "btrimg", "build", "--from-tar", "-", "-o", str(tmp_path / "image")]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
        while names(tmp_path) != ["image.partial"]:  # it waits for the archive
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(stop)
        assert process.wait() == 128 + stop
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    ("outputs", "why"),
    [
        ([""], "an output without a name cannot be written"),
        (["x.partial", "x"], "x.partial is the name of another output while that is written"),
        (["x", "./x"], "x is named twice"),
    ],
)
def test_outputs_that_are_in_each_others_way_are_refused(tmp_path: Path, outputs: list[str], why: str) -> None:
    with contextlib.chdir(tmp_path), pytest.raises(BtrimgError, match=why):
        build(f"filesystem = {{devices = {len(outputs)}}}", *outputs)
    assert names(tmp_path) == []


def test_paths_of_the_host_count_from_the_recipe(tmp_path: Path) -> None:
    place = tmp_path / "place"
    (place / "folder").mkdir(parents=True)
    (place / "folder" / "file").write_text("from a folder")
    with tarfile.open(place / "a.tar", "x") as archive:
        archive.add(place / "folder" / "file", "archived")
    (place / "x.toml").write_text("do = [{from-dir = 'folder'}, {from-tar = 'a.tar'}, {file = '/c', host = 'a.tar'}]")
    command = [sys.executable, "-m", "btrimg", "build", "place/x.toml", "-o", "image"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    with open_image(str(tmp_path / "image")) as image:
        for name in (b"/file", b"/archived"):
            assert image.open(name).read(0, 100) == b"from a folder"
        assert image.open(b"/c").read(0, 1 << 20) == (place / "a.tar").read_bytes()


def test_an_archive_from_standard_input_is_read_from_where_that_stands(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "x") as archive:
        archive.addfile(tarfile.TarInfo("file"))
    data = (tmp_path / "a.tar").read_bytes()
    (tmp_path / "behind").write_bytes(b"x" * 512 + data)
    command = [sys.executable, "-m", "btrimg", "build", "--from-tar", "-", "-o", str(tmp_path / "image"), "--force"]
    ours, theirs = socket.socketpair()
    with open(tmp_path / "behind", "rb") as behind, ours, theirs:
        os.lseek(behind.fileno(), 512, os.SEEK_SET)
        ours.sendall(data)
        ours.shutdown(socket.SHUT_WR)
        for stdin in (behind, theirs):
            subprocess.run(command, stdin=stdin.fileno(), check=True, capture_output=True)
            with open_image(str(tmp_path / "image")) as image:
                assert image.open(b"/file").item.size == 0
    (tmp_path / "image").unlink()
    for words, why in ([["--from-tar", "-"], "holds one archive"], [[], "is closed"]):
        shell = ["sh", "-c", 'exec "$@" <&-' if not words else 'exec "$@"', "sh"]
        done = subprocess.run([*shell, *command, *words], stdin=subprocess.DEVNULL, capture_output=True, check=False)
        assert (done.returncode, done.stderr) == (2, f"btrimg: --from-tar -: standard input {why}\n".encode())
    assert not (tmp_path / "image").exists()


def test_a_label_is_what_stands_on_the_command_line(tmp_path: Path) -> None:
    image = os.fsencode(tmp_path / "image")
    words = [
        b"build",
        b"--from-dir",
        os.fsencode(tmp_path),
        b"--label",
        b"\\caf\xe9",
        b"--seed",
        b"\xff\\",
        b"-o",
        image,
    ]
    subprocess.run([sys.executable, "-m", "btrimg", *words], check=True, capture_output=True)
    with open_image(os.fsdecode(image)) as opened:
        assert opened.superblock.label.rstrip(b"\0") == b"\\caf\xe9"
