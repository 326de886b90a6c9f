"""Recipes of images that the kernel wrote: what is built of them, as the kernel shows it, is what they describe."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import kernel
from support.judges import complaints
from support.program import btrimg
from support.truth import Entry, Truth, record

from btrimg.build import tomltext as toml
from btrimg.build.readers import read_bytes, read_time
from btrimg.build.recipe import parse_recipe
from btrimg.ondisk.inodes import Timespec

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from support.images import KernelImage

SHARED, KINDS = 0x2000, kernel.FIEMAP_ENCODED | kernel.FIEMAP_INLINE | kernel.FIEMAP_UNWRITTEN


@pytest.mark.kernel
@pytest.mark.parametrize(
    ("profile", "options"),
    [
        ("single", {"compression": "zstd"}),
        ("raid10", {"csum": "xxhash", "nodesize": 4096, "metadata_profile": "raid1c3"}),
    ],
)
def test_an_image_and_what_is_built_of_its_recipe_look_the_same(
    kernel_image: Callable[..., KernelImage], tmp_path: Path, profile: str, options: dict[str, Any]
) -> None:
    image = kernel_image(profile=profile, **options)
    recipe = described(image.devices, tmp_path / "first.toml")
    built = made(recipe, tmp_path / "built", len(image.devices))
    assert complaints(built) == []
    with kernel.mount(built, read_only=True) as top:
        assert_same(record(top), image.truth)
    # Where extents were written in part, they are two now: from here on, nothing changes any more.
    second = described(built, tmp_path / "second.toml")
    third = described(made(second, tmp_path / "again", len(built)), tmp_path / "third.toml")
    assert third.read_text().replace("third.toml", "second.toml") == second.read_text()


def described(devices: Sequence[str], recipe: Path) -> Path:
    further = [word for device in devices[1:] for word in ("-d", device)]
    assert btrimg("recipe", devices[0], *further, "-o", recipe).returncode == 0
    return recipe


def made(recipe: Path, directory: Path, devices: int) -> list[str]:
    directory.mkdir()
    built = [str(directory / f"dev{number}.img") for number in range(1, devices + 1)]
    assert btrimg("build", recipe, *(word for device in built for word in ("-o", device))).returncode == 0
    return built


def assert_same(built: Truth, original: Truth) -> None:
    assert built.entries.keys() == original.entries.keys()
    for path, entry in original.entries.items():
        assert looks(built.entries[path]) == looks(entry), path
    of_path = {subvolume.path: subvolume.info for subvolume in built.subvolumes.values()}
    for subvolume in original.subvolumes.values():
        info = of_path[subvolume.path]
        assert info.flags & 1 == subvolume.info.flags & 1
        assert info.uuid == subvolume.info.uuid or subvolume.path == b"/"  # no recipe says that


def looks(entry: Entry) -> dict[str, object]:
    """Return what a recipe says of an inode."""
    found = entry.stat
    kept = {"mode": found.mode, "uid": found.uid, "gid": found.gid, "rdev": found.rdev}
    if not entry.is_placeholder:
        kept |= {"atime": found.atime, "mtime": found.mtime, "ctime": found.ctime, "btime": found.btime}
    if not stat.S_ISDIR(found.mode):
        kept |= {"size": found.size, "nlink": found.nlink}
    return {
        **kept,
        "xattrs": entry.xattrs,
        "target": entry.target,
        "names": sorted(entry.names or ()),
        "content": (entry.content, entry.sha256),
        "sharing": sharing(entry),
    }


def sharing(entry: Entry) -> list[tuple[int, int, int]]:
    """Return ranges of a file that are of one kind, and alike shared or not, in whole sectors up to its end."""
    ranges: list[tuple[int, int, int]] = []
    for row in entry.extents:
        flags, end = row.flags & (SHARED | KINDS), row.offset + row.length
        if flags & kernel.FIEMAP_INLINE:
            end = entry.stat.size
        if ranges and ranges[-1][1:] == (row.offset, flags):
            ranges[-1] = (ranges[-1][0], end, flags)
        else:
            ranges.append((row.offset, end, flags))
    return [each for each in ranges if each[0] < entry.stat.size]


@given(st.binary(max_size=40) | st.text(max_size=40).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_any_bytes_can_be_said(raw: bytes) -> None:
    import tomllib

    assert read_bytes(tomllib.loads(f"x = {toml.text(raw)}")["x"]) == raw


@given(st.integers(-(1 << 40), 1 << 40), st.integers(0, 10**9 - 1))
def test_any_time_can_be_said(seconds: int, nanoseconds: int) -> None:
    import tomllib

    value = tomllib.loads(f"x = {toml.value(toml.time(Timespec(seconds, nanoseconds)))}")["x"]
    assert read_time(value) == Timespec(seconds, nanoseconds)


def test_an_empty_image_has_a_recipe_too(tmp_path: Path) -> None:
    plain = tmp_path / "plain.toml"
    plain.write_text("[filesystem]\nsize = '256M'\nlabel = 'none'\n")
    image = str(tmp_path / "plain.img")
    assert btrimg("build", str(plain), "-o", image).returncode == 0
    said = btrimg("recipe", image)
    assert said.returncode == 0
    recipe = parse_recipe(said.stdout.encode(), "said")
    assert (recipe.filesystem.sizes, recipe.filesystem.label) == ((256 << 20,), b"none")


def test_what_a_snapshot_shows_of_a_subvolume_can_be_taken_away(tmp_path: Path) -> None:
    plain = tmp_path / "plain.toml"
    plain.write_text("""do = [
        {subvolume = "/a"}, {mkdir = "/a/d"}, {subvolume = "/a/d/n"}, {subvolume = "/a/m"}, {subvolume = "/a/o"},
        {snapshot = "/b", of = "/a"}, {snapshot = "/c", of = "/b"}, {snapshot = "/e", of = "/b"},
        {delete = "/c/d/n"}, {delete = "/c/m"}, {file = "/c/m", text = "now a file"},
        {delete = "/c/o"}, {subvolume = "/c/o"}, {delete = "/e/d", recursive = true},
    ]""")
    image = str(tmp_path / "plain.img")
    assert btrimg("build", str(plain), "-o", image).returncode == 0
    (again,) = made(described([image], tmp_path / "again.toml"), tmp_path / "again", 1)
    listed = [btrimg("ls", "-lR", f"{path}:/").stdout for path in (image, again)]
    assert listed[0] == listed[1]
    assert complaints([again]) == []
