"""``btrimg recipe`` as a person runs it: what it leaves behind, and what it makes of what cannot be read."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest
from support.program import btrimg

from btrimg.build.image import build_image
from btrimg.build.recipe import parse_recipe
from btrimg.filesystem.image import open_image

if TYPE_CHECKING:
    from pathlib import Path

ENTRIES = """do = [
    {file = "/caf\u00e9", random = "64K"},
    {file = "/b", random = "5000"},
    {reflink = "/c", from = "/b"},
    {file = "/small", text = "text"},
    {link = "/b again", to = "/b"},
]"""


@pytest.fixture
def image(tmp_path: Path) -> str:
    path = str(tmp_path / "x.img")
    recipe = parse_recipe(ENTRIES.encode(), "x.toml")
    build_image(recipe.filesystem, recipe.operations(), [path])
    return path


def names(directory: Path) -> list[str]:
    return sorted(entry.name for entry in directory.iterdir())


def damage(image: str, path: bytes) -> None:
    """Change a byte of the data of a file."""
    with open_image(image) as opened:
        (copy,) = opened.open(path).resolve(4096).copies
    with open(image, "r+b") as file:
        file.seek(copy.physical)
        file.write(b"damage")


def test_what_cannot_be_read_is_a_hole_and_named(image: str, tmp_path: Path) -> None:
    damage(image, b"/b")
    said = btrimg("recipe", image, "-o", tmp_path / "x.toml")
    assert said.returncode == 1
    assert [line.split(": ")[2] for line in said.stderr.splitlines()] == [
        "'/b' has a hole at 0",
        "'/c' has a hole at 0",
    ]
    assert btrimg("build", tmp_path / "x.toml", "-o", tmp_path / "again.img").returncode == 0
    with open_image(image) as opened, open_image(str(tmp_path / "again.img")) as again:
        assert again.open(b"/caf\xc3\xa9").read(0, 1 << 20) == opened.open(b"/caf\xc3\xa9").read(0, 1 << 20)
        assert again.open(b"/b again").read(0, 1 << 20) == bytes(5000)
        assert again.open(b"/b").item.nlink == 2


def test_what_nobody_knows_is_named_and_the_rest_described(tmp_path: Path) -> None:
    text = """filesystem.size = "64M"
    do = [
        {file = "/parts", parts = [{random = "64K"}, {random = "8K"}, {random = "64K"}]},
        {mkdir = "/lost"},
        {file = "/lost/kept", text = "kept"},
        {file = "/gone", text = "gone"},
        {link = "/gone too", to = "/gone"},
        {symlink = "/nowhere", to = "somewhere"},
        {file = "/named", text = "named", xattrs = {"user.a" = "value"}},
        {subvolume = "/sub"},
        {file = "/sub/last", text = "last"},
    ]"""
    recipe, path = parse_recipe(text.encode(), "x.toml"), str(tmp_path / "x.img")
    build_image(recipe.filesystem, recipe.operations(), [path])
    with open_image(path) as image:
        second = list(image.open(b"/parts").extents())[1].offset
        whole = image.open(b"/parts").read(0, 1 << 20)
        lost, gone, nowhere = (image.open(name, follow=False).ino for name in (b"/lost", b"/gone", b"/nowhere"))
    broken = (
        f"/parts:EXTENT_DATA.{second}/other_encoding=7",
        f"fs/{lost}.INODE_ITEM=none",
        f"fs/{gone}.INODE_ITEM=none",
        f"fs/{nowhere}.INODE_ITEM/size=5000",
        "/named:XATTR_ITEM.*/name_len=4000",
    )
    said = btrimg("corrupt", "--in-place", path, *broken)
    assert said.returncode == 0, said.stderr
    said = btrimg("recipe", path, "-o", tmp_path / "again.toml")
    assert said.returncode == 1
    assert [line.removeprefix("btrimg: warning: ") for line in said.stderr.splitlines()] == [
        f"inode {lost} of subvolume 5 has no inode item",
        f"'/parts' has a hole: file extent at {second} of inode 257: encoding 0/7 is not known",
        f"'/lost' is described without its attributes: inode {lost} of subvolume 5 has no inode item",
        f"'/gone' is left out: inode {gone} of subvolume 5 has no inode item",
        f"'/gone too' is left out: inode {gone} of subvolume 5 has no inode item",
        f"'/nowhere' is left out: symlink {nowhere} of subvolume 5 has 5000 bytes",
        "'/named' is described without extended attributes: XATTR_ITEM of 41 bytes is not DirItem",
    ]
    assert btrimg("build", tmp_path / "again.toml", "-o", tmp_path / "again.img").returncode == 0
    with open_image(str(tmp_path / "again.img")) as again:
        assert again.open(b"/parts").read(0, 1 << 20) == whole[:second] + bytes(8192) + whole[second + 8192 :]
        assert [each.name for each, _ in again.open(b"/").entries()] == [b"parts", b"lost", b"named", b"sub"]
        assert again.open(b"/lost/kept").read(0, 9) == b"kept"
        assert again.open(b"/named").xattrs() == {}
        assert again.open(b"/sub/last").read(0, 9) == b"last"


def test_a_recipe_that_cannot_be_completed_leaves_what_was_there(image: str, tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_text("mine")
    (tmp_path / "x.toml.data").mkdir()
    (tmp_path / "x.toml.data" / "1").write_text("mine too")
    before = names(tmp_path)
    said = btrimg("recipe", image, "-o", tmp_path / "x.toml")
    assert (said.returncode, names(tmp_path)) == (2, before)
    assert said.stderr == f"btrimg: {tmp_path}/x.toml exists: --overwrite replaces it\n"
    limited = ["bash", "-c", 'ulimit -f 8; exec "$@"', "x", sys.executable, "-m", "btrimg"]
    command = [*limited, "recipe", image, "-o", str(tmp_path / "x.toml"), "--overwrite"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, names(tmp_path)) == (2, before)
    assert "File too large" in done.stderr
    assert (tmp_path / "x.toml.data" / "1").read_text() == "mine too"
    assert btrimg("recipe", image, "-o", tmp_path / "x.toml", "--overwrite").returncode == 0
    assert names(tmp_path) == before
    assert names(tmp_path / "x.toml.data") == ["000001", "000002"]


def test_a_recipe_takes_no_directory_s_place(image: str, tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "here.data").mkdir()
    said = btrimg("recipe", image, "-o", tmp_path / "here", "--overwrite")
    assert (said.returncode, said.stderr) == (2, f"btrimg: {tmp_path}/here is a directory; name a file\n")
    os.mkfifo(tmp_path / "pipe")
    said = btrimg("recipe", image, "-o", tmp_path / "pipe", "--overwrite")
    assert said.stderr == f"btrimg: {tmp_path}/pipe is no file that could be replaced; name another\n"
    assert (tmp_path / "pipe").is_fifo()
    assert names(tmp_path) == ["here", "here.data", "pipe", "x.img"]


def test_a_recipe_is_never_written_over_its_image(image: str, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(image)
    for output in (image, tmp_path / "link"):
        said = btrimg("recipe", image, "-o", output, "--overwrite")
        assert (said.returncode, said.stderr) == (
            2,
            f"btrimg: {output} would be replaced, and is the image or holds it; name another file\n",
        )


def test_a_recipe_that_is_told_to_stop_leaves_nothing(tmp_path: Path) -> None:
    recipe = tmp_path / "large.toml"
    recipe.write_text('[[do]]\nrepeat = 5000\nfile = "/{n}"\nrandom = "4K"\n')
    large = tmp_path / "large.img"
    assert btrimg("build", recipe, "-o", large).returncode == 0
    before = names(tmp_path)
    command = [sys.executable, "-m", "btrimg", "recipe", str(large), "-o", str(tmp_path / "x.toml")]
    with subprocess.Popen(command) as process:
        while names(tmp_path) == before:
            assert process.poll() is None
            time.sleep(0.005)
        process.terminate()
        assert process.wait() == 128 + signal.SIGTERM
    assert names(tmp_path) == before


def test_a_printed_recipe_is_utf_8_wherever_it_goes(image: str) -> None:
    command = ["env", "PYTHONIOENCODING=ascii", sys.executable, "-m", "btrimg", "recipe", image]
    said = subprocess.run(command, capture_output=True, check=True)
    assert "'/caf\u00e9'" in said.stdout.decode()
