"""``btrimg corrupt``: where it writes, what it refuses, what it tells."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest
from support import images, kernel
from support.fresh import make_empty_on

from btrimg.filesystem.image import open_image

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

EDIT = "/files/inline.txt:INODE_ITEM/nlink=7"


def corrupt(*words: str) -> tuple[int, str, str]:
    """Run the command; return its exit code and what it writes to standard output and standard error."""
    done = subprocess.run([sys.executable, "-m", "btrimg", "corrupt", *words], capture_output=True, text=True)
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout, done.stderr


def links(*paths: str) -> int:
    with open_image(paths) as image:
        count: int = image.open(b"/files/inline.txt").item.nlink
        return count


def written(path: str) -> int:
    """Return when a file was last written to."""
    return os.stat(path).st_mtime_ns


def test_output_is_a_changed_copy_with_its_holes(demo_image: str, tmp_path: Path) -> None:
    output = str(tmp_path / "bad.img")
    code, out, said = corrupt(demo_image, EDIT, "--output", output)
    assert (code, said) == (0, "")
    assert out.count("\n") == 4
    assert (links(demo_image), links(output)) == (2, 7)
    before, after = (np.fromfile(path, np.uint8) for path in (demo_image, output))
    assert np.count_nonzero(before != after) == 2 * (4 + 1), "two copies: a checksum and a byte"
    assert os.stat(output).st_blocks <= os.stat(demo_image).st_blocks + 64
    assert os.listdir(tmp_path) == ["bad.img"]


def test_in_place_changes_the_image_itself(forged: str) -> None:
    code, out, _ = corrupt(forged, EDIT, "super/label=changed", "--in-place", "--json")
    assert code == 0
    rows = [json.loads(line) for line in out.splitlines()]
    assert all(row["device"] == forged and row["devid"] == 1 for row in rows)
    with open(forged, "rb") as file:
        for row in rows:
            after = bytes.fromhex(row["after"])
            assert os.pread(file.fileno(), len(after), row["physical"]) == after != bytes.fromhex(row["before"])
    assert links(forged) == 7


def test_where_to_write_must_be_said_and_only_once(forged: str, tmp_path: Path) -> None:
    before = written(forged)
    for words in ([], ["--in-place", "--output", str(tmp_path / "bad.img")]):
        code, out, said = corrupt(forged, EDIT, *words)
        assert (code, out) == (2, "")
        assert "--output FILE for a changed copy, or --in-place" in said
    assert written(forged) == before


@pytest.mark.parametrize(
    ("edit", "code", "said"),
    [
        ("fs/256.INODE_ITEM/nlink", 2, "says no new value"),
        ("fs/256.INODE_ITEM/nlink=lots", 2, "'lots' is no number"),
        ("fs/999.INODE_ITEM/nlink=1", 1, "there is no such item"),
        ("fs/256.INODE_ITEM/payload=0x00*17000", 1, "do not fit their leaf"),
    ],
)
def test_an_edit_that_cannot_be_made_leaves_nothing_behind(
    edit: str, code: int, said: str, forged: str, tmp_path: Path
) -> None:
    before = written(forged)
    assert corrupt(forged, EDIT, edit, "--in-place")[0] == code
    found = corrupt(forged, EDIT, edit, "--output", str(tmp_path / "bad.img"))
    assert found[:2] == (code, "")
    assert said in found[2]
    assert written(forged) == before
    assert os.listdir(tmp_path) == ["forged"]


def test_a_file_that_is_there_is_not_written_over(demo_image: str, tmp_path: Path) -> None:
    output = tmp_path / "bad.img"
    output.write_text("mine")
    code, _, said = corrupt(demo_image, EDIT, "--output", str(output))
    assert code == 2
    assert "exists; name a new file" in said
    assert output.read_text() == "mine"


def test_copies_of_several_devices_that_cannot_be_made_leave_no_directory(tmp_path: Path) -> None:
    first, second, output = (str(tmp_path / name) for name in ("a/disk.img", "b/disk.img", "new/copies"))
    for path in (first, second):
        os.mkdir(os.path.dirname(path))
    make_empty_on([first, second], 48 << 20, data="raid1", metadata="raid1")
    code, out, said = corrupt(first, "super/label=x", "-d", second, "--output", output)
    assert (code, out) == (2, "")
    assert said == f"btrimg: {first} and {second} would both be copied to {output}/disk.img; give one another name\n"
    other = second.replace("disk", "other")
    os.rename(second, other)
    command = ["bash", "-c", 'ulimit -f 8; exec "$@"', "x", sys.executable, "-m", "btrimg", "corrupt", first]
    done = subprocess.run(
        [*command, "super/label=x", "-d", other, "--output", output], capture_output=True, text=True, check=False
    )
    assert (done.returncode, "File too large" in done.stderr) == (2, True)
    assert sorted(os.listdir(tmp_path)) == ["a", "b"]
    os.makedirs(output)
    assert corrupt(first, "super/label=x", "-d", other, "--output", output + "/disk.img")[0] == 0
    code, _, said = corrupt(first, "super/label=y", "-d", other, "--output", output + "/disk.img")
    assert (code, "disk.img exists; name a new file" in said) == (2, True)
    assert sorted(os.listdir(output + "/disk.img")) == ["disk.img", "other.img"]


def test_an_image_that_is_none_is_refused(tmp_path: Path) -> None:
    for name in ("missing.img", "empty.img"):
        (tmp_path / "empty.img").touch()
        code, out, said = corrupt(str(tmp_path / name), EDIT, "--in-place")
        assert (code, out) == (2, "")
        assert name in said


@pytest.mark.kernel
def test_an_image_in_use_is_not_changed_in_place(
    kernel_image: Callable[..., images.KernelImage], tmp_path: Path
) -> None:
    image = kernel_image()
    copy = image.copy(str(tmp_path))[0]
    with kernel.loop_devices([copy]) as (device,):
        code, _, said = corrupt(copy, "super/label=x", "--in-place")
        assert code == 2
        assert f"{copy} is attached to {device}" in said
        assert corrupt(device, "super/label=x", "--in-place")[0] == 0, "it is ours, and not mounted"
    with image.mount() as top, open("/proc/mounts") as mounts:
        device = next(line.split()[0] for line in mounts if line.split()[1] == top)
        code, _, said = corrupt(device, "super/label=x", "--in-place")
        assert code == 2
        assert f"{device} is mounted" in said


@pytest.mark.kernel
@pytest.mark.parametrize("profile", ["raid1c3", "raid6"])
def test_several_devices_keep_copies_and_parity_right(
    profile: str, kernel_image: Callable[..., images.KernelImage], tmp_path: Path
) -> None:
    """Metadata and data change on all devices; every device may then be missing that the profile can spare."""
    image = kernel_image(profile=profile)
    first, *others = image.devices
    further = [word for device in others for word in ("-d", device)]
    output = str(tmp_path / "bad")
    edits = ["/plain/big:INODE_ITEM/nlink=7", "data/{/plain/big:EXTENT_DATA.0/disk_bytenr}+70000^=0xffff"]
    code, _, said = corrupt(first, *edits, *further, "--output", output)
    assert (code, said) == (0, "")
    changed = [os.path.join(output, os.path.basename(device)) for device in image.devices]
    with open_image(image.devices) as before:
        text = bytearray(before.open(b"/plain/big").read(0, 80_000))
    text[70_000:70_002] = bytes(byte ^ 0xFF for byte in text[70_000:70_002])
    for missing in (None, *changed):
        present = [path for path in changed if path != missing]
        with open_image(present, warn=lambda _message: None) as after:
            inode = after.open(b"/plain/big")
            assert inode.item.nlink == 7
            assert inode.read(0, 80_000) == text
