"""Who reads one piece of a file after the other gets what the plain way of reading gives, damage included."""

from __future__ import annotations

import shutil
import threading
from typing import TYPE_CHECKING

import pytest
from support.program import btrimg

from btrimg.errors import ChecksumError
from btrimg.filesystem.image import open_image
from btrimg.mount.reading import Reader
from btrimg.mount.tree import Files
from btrimg.mount.wire import ROOT
from btrimg.ondisk.constants import TreeId
from btrimg.units import KIB, MIB

if TYPE_CHECKING:
    from pathlib import Path

    from btrimg.filesystem.image import Image

#: 18 MiB: more than is looked up at once; no whole number of sectors.
RECIPE = """
[[do]]
file = "/file"
stamp = "one after the other"
size = 18874411
"""
SECTOR = 4096


@pytest.fixture(
    scope="module",
    params=[("crc32c", "dup"), ("xxhash", "dup"), ("crc32c", "raid0"), ("crc32c", "raid5")],
    ids="-".join,
)
def devices(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    csum, profile = request.param
    tmp_path = tmp_path_factory.mktemp("reading")
    recipe = tmp_path / "recipe.toml"
    count = 1 if profile == "dup" else 3
    recipe.write_text(f"[filesystem]\ndevices = {count}\n{RECIPE}")
    made = [str(tmp_path / f"image{number}") for number in range(count)]
    outputs = [word for path in made for word in ("-o", path)]
    done = btrimg("build", recipe, *outputs, "--csum", csum, "--data", profile)
    assert done.returncode == 0, done.stderr
    return made


def pieces(image: Image, step: int, start: int = 0) -> list[bytes | None]:
    """Return the file in pieces of *step* bytes as the mount reads it; None for those with an error."""
    lock = threading.RLock()
    files, reader = Files(image, TreeId.FS_TREE, lock), Reader(image, lock)
    file = files.data(files.child(ROOT, b"file"))
    found: list[bytes | None] = []
    for at in range(start, file.size, step):
        try:
            found.append(bytes(reader.read(file, at, step)))
        except ChecksumError:
            found.append(None)
    reader.close()
    return found


def test_pieces_are_the_file(devices: list[str]) -> None:
    with open_image(devices) as image:
        content = image.open(b"/file").read(0, 1 << 30)
        for step, start in (MIB, 0), (128 * KIB, 0), (MIB, 5), (21 * SECTOR, SECTOR):
            assert pieces(image, step, start) == [content[at : at + step] for at in range(start, len(content), step)]


def test_a_bad_copy_is_replaced_and_bad_copies_are_an_error_of_one_piece(devices: list[str], tmp_path: Path) -> None:
    devices = [shutil.copy(path, str(tmp_path)) for path in devices]
    with open_image(devices) as image:
        inode = image.open(b"/file")
        content = inode.read(0, 1 << 30)
        resolved = inode.resolve(9 * MIB + SECTOR)
        places, parity = resolved.copies, resolved.parity
        by_devid = {devid: device.path for devid, device in image.volume.devices.items()}
    expected: list[bytes | None] = [content[at : at + MIB] for at in range(0, len(content), MIB)]
    for bad, place in enumerate(places, 1):
        with open(by_devid[place.devid], "r+b") as device:
            device.seek(place.physical)
            device.write(b"\xff" * SECTOR)
        if bad == len(places) and not parity:
            expected[9] = None
        with open_image(devices, warn=lambda _: None) as damaged:
            assert pieces(damaged, MIB) == expected
