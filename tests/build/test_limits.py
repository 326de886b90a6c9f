"""Recipes that ask for what no file, xattr or file of the host can be: a sentence with line and entry, at once."""

from __future__ import annotations

import os
import tarfile
from io import BytesIO
from typing import TYPE_CHECKING

import pytest

from btrimg.build.content import Surroundings, reading
from btrimg.build.image import build_image
from btrimg.build.recipe import parse_recipe
from btrimg.build.values import Content
from btrimg.errors import BtrimgError, RecipeError

if TYPE_CHECKING:
    from pathlib import Path

_LAST_SECTOR = (1 << 63) - 4096


def complaint(directory: Path, text: str, devices: int = 1) -> str:
    recipe = parse_recipe(text.encode(), "x.toml", str(directory).encode())
    outputs = [str(directory / f"{number}.img") for number in range(devices)]
    with pytest.raises(RecipeError) as caught:
        build_image(recipe.filesystem, recipe.operations(), outputs, directory=recipe.directory)
    assert not any(map(os.path.exists, outputs))
    return str(caught.value)


@pytest.mark.parametrize(
    ("do", "told"),
    [
        (f"{{write = '/a', offset = {_LAST_SECTOR + 4000}, text = 'x'}}", "data that end at"),
        (f"{{write = '/a', offset = {_LAST_SECTOR}, random = '1E'}}", "do not fit a file"),
        (f"{{prealloc = '/a', offset = {_LAST_SECTOR}, length = 1}}", "data that end at"),
        (f"{{reflink = '/a', from = '/a', offset = {_LAST_SECTOR}}}", "do not fit a file"),
        (f"{{file = '/b', parts = [{{offset = {_LAST_SECTOR}, text = 'x'}}]}}", "data that end at"),
        (f"{{file = '/b', parts = [{{offset = {_LAST_SECTOR}, prealloc = '1M'}}]}}", "do not fit a file"),
        ("{file = '/b', parts = [{hole = '7E'}, {hole = '7E'}]}", "do not fit a file"),
        ("{file = '/b', parts = [{hole = '7E'}, {random = '7E'}]}", "do not fit a file"),
        ("{file = '/b', parts = [{offset = '7E', from = '/a'}], size = '1K'}", "size 1024 is less than"),
        ("{from-tar = 'sparse.tar'}", "data that end at"),
    ],
)
def test_what_would_lie_beyond_the_end_of_any_file_is_refused(tmp_path: Path, do: str, told: str) -> None:
    with tarfile.open(tmp_path / "sparse.tar", "x") as archive:
        sparse = tarfile.TarInfo("sparse")
        sparse.pax_headers = {"GNU.sparse.map": f"{_LAST_SECTOR},1", "GNU.sparse.size": str(_LAST_SECTOR + 1)}
        sparse.size = 1
        archive.addfile(sparse, BytesIO(b"x"))
    said = complaint(tmp_path, f"do = [\n{{file = '/a', random = '8K', inline = false}},\n{do},\n]")
    assert said.startswith("x.toml, line 3: ")
    assert told in said, said


@pytest.mark.parametrize("do", ["file = '/b', size = '{size}'", "truncate = '/a', size = '{size}'"])
def test_a_hole_to_the_end_of_any_file_is_refused_where_it_has_an_item(tmp_path: Path, do: str) -> None:
    holes = f"do = [\n{{file = '/a'}},\n{{{do.format(size=(1 << 63) - 1)}}}\n]\nfilesystem.features = ['^no-holes']"
    assert "data that end at" in complaint(tmp_path, holes)


@pytest.mark.parametrize(
    ("place", "held"),
    [
        ("devid = 2, physical = '50M'", "byte 52428800 of device 2 holds parity"),
        ("devid = 1, physical = '64M'", "byte 67108864 of device 1 holds a superblock"),
        ("devid = 3, physical = '1M'", "byte 1048576 of device 3 is in no block group of data"),
        ("devid = 9, physical = '64M'", "there is no device 9"),
    ],
)
def test_a_place_where_no_data_can_lie_is_told_for_what_it_is(tmp_path: Path, place: str, held: str) -> None:
    do = f"do = [\n{{file = '/a', random = '1M', at = {{{place}}}}}]"
    said = complaint(tmp_path, f"{do}\nfilesystem = {{size = '400M', devices = 3, data = 'raid5'}}", devices=3)
    assert said.startswith(f"x.toml, line 2: file '/a': {held}: ")


@pytest.mark.parametrize("content", ["random = '1T'", "zeros = '7E'", "pattern = 'ab', size = '1T'", "host = 'large'"])
def test_an_xattr_that_nothing_can_hold_is_never_made(tmp_path: Path, content: str) -> None:
    with open(tmp_path / "large", "xb") as file:
        file.truncate(1 << 40)
    said = complaint(tmp_path, f"do = [\n{{file = '/a', xattrs = {{'user.q' = {{{content}}}}}}}]")
    assert said.startswith("x.toml, line 2: file '/a': xattr 'user.q': ")
    assert "bytes are too many: take at most 65536" in said


@pytest.mark.parametrize(
    ("host", "told"),
    [
        ("host = 'folder'", "is no regular file"),
        ("host = 'fifo'", "is no regular file"),
        ("host = 'small', skip = 9223372036854775807", "has 4 bytes, and 9223372036854775807 + 0 are wanted"),
        ("host = 'small', skip = 2, size = 3", "has 4 bytes, and 2 + 3 are wanted"),
    ],
)
def test_a_file_of_the_host_that_cannot_be_taken_is_told_by_name(tmp_path: Path, host: str, told: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "small").write_bytes(b"1234")
    os.mkfifo(tmp_path / "fifo")
    said = complaint(tmp_path, f"do = [\n{{file = '/a', {host}}}]")
    assert said.startswith("x.toml, line 2: file '/a': '")
    assert told in said, said


@pytest.mark.parametrize("size", [1000, 6 << 20])
def test_a_file_of_the_host_that_becomes_shorter_is_told_by_name(tmp_path: Path, size: int) -> None:
    host = tmp_path / "host"
    host.write_bytes(b"x" * size)
    with reading(Content("host", b"host"), Surroundings(os.fsencode(tmp_path), b"", "")) as (read, length):
        assert length == size
        os.truncate(host, size // 2)
        with pytest.raises(BtrimgError, match="host' became shorter while it was read"):
            read(length)
