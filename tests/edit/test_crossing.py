"""What moves into another subvolume: copies that share the data; the kernel's mv is its judge in test_as_kernel."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from support.fresh import make_empty
from support.judges import complaints_of_btrimg
from support.program import btrimg

from btrimg.filesystem.image import open_image
from btrimg.ondisk.constants import InodeFlag

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def image(tmp_path: Path) -> str:
    """Give an image with subvolumes beside and in each other, and a snapshot of all."""
    path = str(tmp_path / "a.img")
    make_empty(path, 80 << 20)
    (tmp_path / "data").write_bytes(os.urandom(100_000))
    lines = (
        "begin",
        "mkdir -p /a/deep",
        "touch /a/file",
        "chattr +nodatacow,+nodump /a/file",
        f"write {tmp_path}/data /a/file",
        "ln /a/file /a/deep/hard",
        "subvolume create /other /a/deep/inner",
        "mkdir -p /other/full/below",
        "touch /a/deep/inner/leaf",
        "snapshot / /was",
        "commit",
    )
    done = btrimg("shell", path, stdin="\n".join(lines))
    assert done.returncode == 0, done.stderr
    return path


def test_subvolumes_in_a_directory_stay_subvolumes(image: str) -> None:
    with open_image(image) as before:
        file, inner = before.open(b"/a/file"), before.open(b"/a/deep/inner").subvolume.id
        extents = [row.extent for row in file.extents()]
    done = btrimg("edit", image, "mv", "/a", "/other/a")
    assert done.returncode == 0, done.stderr
    assert complaints_of_btrimg([image]) == []
    with open_image(image) as after:
        moved = after.open(b"/other/a/file")
        assert [row.extent for row in moved.extents()] == extents, "it shares what the snapshot has"
        assert moved.item.flags == file.item.flags
        assert moved.item.flags & InodeFlag.NODATACOW
        assert moved.item.nlink == 2
        assert after.open(b"/other/a/deep/hard").ino == moved.ino
        assert after.open(b"/other/a/deep/inner/leaf").subvolume.id == inner
        assert {entry.name for entry, _ in after.open(b"/").entries()} == {b"other", b"was"}
    done = btrimg("edit", image, "--undo", image + ".2", "mv", "/was/a", "/other/b")
    assert done.returncode == 0, done.stderr
    with open_image(image) as after:
        assert list(after.open(b"/other/b/deep/inner").entries()) == [], "in the snapshot it was an empty directory"
    assert complaints_of_btrimg([image]) == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("/a", "/a/deep/inner/a"), "a directory cannot be moved into itself"),
        (("/a", "/a/deep/inner"), "a directory cannot be moved into itself"),
        (("/a/file", "/other/full/file/x"), "'/other/full/file' is not there"),
        (("/a", "/other/a" + "b" * 300), "a name has up to 255 bytes"),
    ],
)
def test_what_cannot_move_stays(image: str, words: tuple[str, str], said: str) -> None:
    done = btrimg("edit", image, "mv", *words)
    assert (done.returncode != 0, said in done.stderr) == (True, True), done.stderr
    assert not os.path.exists(image + ".undo.2")


def test_only_what_is_alike_and_empty_makes_room(image: str, tmp_path: Path) -> None:
    (tmp_path / "full.toml").write_text('[[do]]\nrename = "/a"\nto = "/other/full"\n')
    for setup, said in (("", "is not empty"), ("rm -r /other/full\ntouch /other/full\n", "cannot make room for a dir")):
        lines = f"begin\n{setup}commit\n" if setup else ""
        assert btrimg("shell", image, stdin=lines).returncode == 0
        done = btrimg("edit", image, "--script", tmp_path / "full.toml")
        assert (done.returncode, said in done.stderr) == (2, True), done.stderr
    done = btrimg("edit", image, "mv", "/a/file", "/other/full")
    assert done.returncode == 0, done.stderr
    with open_image(image) as after:
        assert after.open(b"/other/full").item.size == 100_000
        assert after.open(b"/a/deep/hard").item.nlink == 1
    assert complaints_of_btrimg([image]) == []


def test_a_number_that_is_given_out_again_is_another_file(image: str, tmp_path: Path) -> None:
    """The first file leaves a number free that the second takes: that does not make it a name of the first."""
    (tmp_path / "one").write_bytes(b"1")
    (tmp_path / "two").write_bytes(b"22")
    lines = (
        "begin",
        "subvolume create /new",
        f"put {tmp_path}/one /new/one",
        f"put {tmp_path}/two /other/two",
        "commit",
    )
    assert btrimg("shell", image, stdin="\n".join(lines)).returncode == 0
    renames = (("/new/one", "/other/one"), ("/other/two", "/new/two"), ("/new/two", "/other/two"))
    script = "".join(f'[[do]]\nrename = "{old}"\nto = "{new}"\n' for old, new in renames)
    (tmp_path / "renames.toml").write_text(script)
    done = btrimg("edit", image, "--undo", image + ".2", "--script", tmp_path / "renames.toml")
    assert done.returncode == 0, done.stderr
    with open_image(image) as after:
        found = {name: after.open(b"/other/" + name) for name in (b"one", b"two")}
        assert {name: (inode.item.size, inode.item.nlink) for name, inode in found.items()} == {
            b"one": (1, 1),
            b"two": (2, 1),
        }
    assert complaints_of_btrimg([image]) == []
