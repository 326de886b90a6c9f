"""The images of fixtures/gallery: clean to all judges, and to the last byte and time what their recipes say."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from support import kernel
from support.afterlife import live_on
from support.compare import compare
from support.judges import complaints
from support.model import Model, facts_of, facts_of_image
from support.program import btrimg
from support.truth import record

from btrimg.build.image import Built, build_image
from btrimg.build.recipe import Recipe, load_recipe, parse_recipe
from btrimg.filesystem.image import open_image

if TYPE_CHECKING:
    from pathlib import Path

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
GALLERY = os.path.join(ROOT, "fixtures/gallery")
NAMES = sorted(name.removesuffix(".toml") for name in os.listdir(GALLERY))

#: What the kernel is shown, and goes on with.
MOUNTED = ("kinds", "mosaic", "compression", "profile-raid6", "collisions")

# btrfs check --mode=lowmem takes minutes for so many, and our model seconds: here the same with fewer.
FEWER = {
    "deep-snapshots": [
        *(("repeat = 300", "repeat = 120"), ("day*5%300", "day*2%120"), ("(day*5+3)%300", "(day*2+1)%120")),
        ("documents/200", "documents/110"),
    ],
    "directory": [("100_000", "5_000"), ("= 500", "= 50")],
    "fragmented": [("10_000", "600"), ("10000", "600"), ("40000K", "2400K"), ("= 100\n", "= 50\n")],
    "old-format": [("2_000", "500"), ("n*3:04", "n*2:04"), ("= 600", "= 200")],
}


def recipe_of(name: str) -> Recipe:
    path = os.path.join(GALLERY, f"{name}.toml")
    with open(path, encoding="utf-8") as file:
        text = file.read()
    for many, fewer in FEWER.get(name, []):
        assert many in text
        text = text.replace(many, fewer)
    return parse_recipe(text.encode(), path, os.fsencode(GALLERY))


def build(recipe: Recipe, directory: Path, name: str) -> tuple[list[str], Built]:
    devices = [str(directory / f"{name}-{number}.img") for number, _ in enumerate(recipe.filesystem.sizes, 1)]
    return devices, build_image(recipe.filesystem, recipe.operations(), devices, directory=recipe.directory)


def differences(found: dict[bytes, Any], expected: dict[bytes, Any]) -> dict[bytes, Any]:
    paths = sorted(found.keys() | expected.keys())
    return {path: (found.get(path), expected.get(path)) for path in paths if found.get(path) != expected.get(path)}


@pytest.mark.kernel
@pytest.mark.progs
@pytest.mark.parametrize("name", NAMES)
def test_an_image_of_the_gallery_is_clean_and_what_its_recipe_says(name: str, tmp_path: Path) -> None:
    recipe = recipe_of(name)
    devices, built = build(recipe, tmp_path, name)
    assert complaints(devices) == []
    with open_image(devices) as image:
        assert differences(facts_of_image(image), Model(recipe).facts()) == {}
        assert image.superblock.bytes_used == built.bytes_used
    if name in MOUNTED:
        with kernel.mount(devices) as top:
            truth = record(top)
            with open_image(devices) as image:
                compare(image, truth)
            assert differences(facts_of(truth), Model(recipe).facts()) == {}
            live_on(top)
        assert complaints(devices) == []


def test_one_byte_of_the_demo_has_one_device_offset_under_four_names(tmp_path: Path) -> None:
    devices, _ = build(load_recipe(os.path.join(ROOT, "fixtures/demo.toml")), tmp_path, "demo")
    places = (
        ("/vm/disk.raw", 1064960),
        ("/vm/clone.raw", 1064960),
        ("/vm/part.raw", 81920),
        ("/vm-monday/disk.raw", 1064960),
    )
    with open_image(devices) as image:
        found = {image.open(path.encode()).resolve(offset).copies for path, offset in places}
        ((copy,),) = found
        with open(devices[0], "rb") as device:
            assert os.pread(device.fileno(), 31, copy.physical) == b"written to disk.raw at 1064960\n"


SHARED = """
    [filesystem]
    size = "256M"
    [[do]]
    file = "/original"
    random = "256K"
    [[do]]
    reflink = "/clone-{n}"
    from = "/original"
    repeat = 3
    [[do]]
    reflink = "/part"
    from = "/original"
    from-offset = "64K"
    length = "32K"
    offset = "128K"
    [[do]]
    file = "/alone"
    random = "64K"
    [[do]]
    write = "/clone-1"
    offset = "100K"
    random = "4K"
"""


@pytest.mark.kernel
@pytest.mark.progs
def test_what_a_recipe_shares_is_shared(tmp_path: Path) -> None:
    devices, _ = build(parse_recipe(SHARED.encode(), "shared.toml"), tmp_path, "shared")
    assert complaints(devices) == []
    with kernel.mount(devices, read_only=True) as top:
        rows = {name: kernel.fiemap(os.path.join(top, name)) for name in os.listdir(top)}
        du = kernel.run("btrfs", "filesystem", "du", "-s", "--raw", top).split()
    ((_, logical, length, flags),) = rows["original"]
    assert length == 256 << 10
    assert flags & kernel.FIEMAP_SHARED
    assert [row.logical for row in rows["clone-0"]] == [row.logical for row in rows["clone-2"]] == [logical]
    assert [(row.offset, row.logical - logical) for row in rows["part"]] == [(128 << 10, 64 << 10)]
    assert rows["part"][0].flags & kernel.FIEMAP_SHARED
    before, new, after = rows["clone-1"]
    assert (before.logical, after.logical) == (logical, logical + (104 << 10))
    assert not new.flags & kernel.FIEMAP_SHARED
    assert not rows["alone"][0].flags & kernel.FIEMAP_SHARED
    # four times 256 KiB, 32 KiB and 64 KiB; alone are 64 KiB and the sector that was written to
    assert (int(du[-4]), int(du[-3])) == ((4 * 256 + 32 + 64) << 10, (64 + 4) << 10)
    said = btrimg("du", "-s", "--raw", *devices).stdout.split()
    assert [word for word in said if word.isdigit()][:2] == du[-4:-2]


def digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def test_the_same_recipe_gives_the_same_bytes_everywhere(tmp_path: Path) -> None:
    """Another directory of recipe and image, another working directory, another order of hashes, another process."""
    found = set()
    for seed in ("0", "4711"):
        place = tmp_path / f"place {seed}"
        place.mkdir()
        (place / "host").write_bytes(b"a file of the host")
        recipe = place / "recipe.toml"
        shutil.copy(os.path.join(GALLERY, "kinds.toml"), recipe)
        with open(recipe, "a", encoding="utf-8") as file:
            file.write('\n[[do]]\nfile = "/host"\nhost = "host"\n[[do]]\nsubvolume = "/sub"\n')
        command = [sys.executable, "-m", "btrimg", "build", str(recipe), "-o", str(place / "image")]
        environment = os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": ROOT, "TZ": f"UTC-{len(seed)}"}
        subprocess.run(command, check=True, cwd=place, env=environment, capture_output=True)
        found.add(digest(place / "image"))
    assert len(found) == 1


def test_the_clock_is_that_of_the_recipe_else_of_the_environment_else_the_start_of_1970(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "plain.toml").write_text('do = [{mkdir = "/a"}]')
    (tmp_path / "said.toml").write_text('filesystem.clock = 7\ndo = [{mkdir = "/a"}]')
    times = []
    for recipe, epoch in (("plain", None), ("plain", "1700000000"), ("said", "1700000000")):
        monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
        if epoch:
            monkeypatch.setenv("SOURCE_DATE_EPOCH", epoch)
        image = tmp_path / f"{recipe}-{epoch}"
        assert btrimg("build", tmp_path / f"{recipe}.toml", "-o", image).returncode == 0
        with open_image([str(image)]) as opened:
            times.append({opened.open(path).item.otime.sec for path in (b"/", b"/a")})
    assert times == [{0}, {1700000000}, {7}]


@pytest.mark.parametrize(
    ("do", "told"),
    [
        ('{mkdir = "/a"}, {file = "/a", text = "x"}', "file '/a': directory 256 of subvolume 5 has a"),
        ('{file = "/no/a", text = "x"}', "file '/no/a': '/no' is not there"),
        ('{file = "/a", text = "x"}, {file = "/a/b"}', "file '/a/b': '/a' is not a directory"),
        ('{write = "/a", text = "x"}', "write '/a': '/a' is not there"),
        ('{file = "/a", host = "/no/such/file"}', "'/no/such/file' cannot be read: No such file"),
        ('{file = "/a", parts = [{random = 5000}, {text = "x"}]}', "part 1 begins at 5000, which is no multiple"),
        ('{file = "/a", parts = [{random = "8K"}, {offset = "4K", text = "x"}]}', "part 1 begins at 4096, where the"),
        ('{file = "/a", random = "8K", inline = true}', "8192 bytes at 0 cannot be inline"),
        ('{file = "/a", random = "1M", at = 0}', "the 1048576 bytes at logical 0 are not all free space"),
        ('{file = "/a", random = "4K", at = {devid = 2, physical = "64M"}}', "there is no device 2"),
        (
            '{file = "/a", random = "4K", at = {devid = 1, physical = "64M"}}',
            "byte 67108864 of device 1 holds a superblock: take another",
        ),
        (
            '{file = "/a", random = "4K", at = {devid = 1, physical = "2M"}}',
            "byte 2097152 of device 1 is in no block group of data",
        ),
        ('{extent = "e", random = "4K"}', "extent 'e': no file uses this extent"),
        ('{file = "/a", parts = [{extent = "e"}]}', "there is no extent 'e'"),
        ('{subvolume = "/s"}, {snapshot = "/r", of = "/s", readonly = true}, {mkdir = "/r/a"}', "is read-only"),
        ('{mkdir = "/a"}, {snapshot = "/b", of = "/a"}', "snapshot '/b': '/a' is no subvolume"),
        (
            '{file = "/a", random = "4K"}, {reflink = "/b", from = "/a", from-offset = 5}',
            "multiples of the sector size",
        ),
        ('{file = "/a-{n}", random = "4M", repeat = 100}', "file '/a-"),
    ],
)
def test_what_cannot_be_done_is_told_with_line_and_entry_and_leaves_nothing(do: str, told: str, tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_text(f'filesystem.size = "128M"\ndo = [\n{do}]')
    done = btrimg("build", tmp_path / "bad.toml", "-o", tmp_path / "image")
    assert done.returncode in (1, 2)
    assert f"{tmp_path / 'bad.toml'}, line 3: " in done.stderr
    assert told in done.stderr
    assert os.listdir(tmp_path) == ["bad.toml"]


def test_placed_and_split_content_lies_where_the_recipe_says(tmp_path: Path) -> None:
    recipe = plain("""
        filesystem.size = "256M"
        do = [
            {file = "/first", random = "4K"},
            {file = "/split", random = "1M", pieces = 7},
            {extent = "whole", random = "256K"},
            {file = "/inside", parts = [{extent = "whole", from-offset = "64K", length = "8K"}]},
        ]
    """)
    devices, _ = build(recipe, tmp_path, "plain")
    with open_image(devices) as image:
        (first,) = image.open(b"/first").resolve(0).copies
        logical = image.open(b"/first").resolve(0).logical
        assert len(list(image.open(b"/split").extents())) == 7
        (row,) = image.open(b"/inside").extents()
        assert row.extent
        assert (row.extent.offset, row.extent.length, row.length) == (64 << 10, 256 << 10, 8 << 10)
    assert logical is not None
    placed = plain(f"""
        filesystem.size = "256M"
        do = [
            {{file = "/logical", random = "64K", at = {logical + (1 << 20)}}},
            {{file = "/physical", random = "64K", at = {{devid = 1, physical = {first.physical + (2 << 20)}}}}},
        ]
    """)
    devices, _ = build(placed, tmp_path, "placed")
    with open_image(devices) as image:
        assert image.open(b"/logical").resolve(0).logical == logical + (1 << 20)
        assert [copy.physical for copy in image.open(b"/physical").resolve(0).copies] == [first.physical + (2 << 20)]


def plain(text: str) -> Recipe:
    return parse_recipe(text.encode(), "x.toml")


def test_a_device_without_size_grows_and_shrinks_again(tmp_path: Path) -> None:
    """Kept from 256 MiB, it takes twice that when 300 MiB of data come; cut off, only what chunks take is left."""
    recipe = plain("""
        [filesystem]
        shrink = true
        slack = "1M"
        [[do]]
        file = "/large-{n}"
        zeros = "30M"
        repeat = 10
    """)
    devices, built = build(recipe, tmp_path, "grown")
    assert os.path.getsize(devices[0]) == built.sizes[1]
    with open_image(devices) as image:
        assert image.superblock.total_bytes == built.sizes[1]
        end = max(stripe.offset + chunk.stripe_length for chunk in image.volume.chunk_map for stripe in chunk.stripes)
        assert built.sizes[1] == end + (1 << 20) > 300 << 20
        assert image.open(b"/large-9").item.size == 30 << 20
