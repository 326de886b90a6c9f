"""Files that share extents share page frames: read, mapped and executed; and only those that may."""

from __future__ import annotations

import json
import mmap
import os
import shutil
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from support.frames import frames_of
from support.mounted import mounted, require_fuse
from support.program import btrimg

from btrimg.units import MIB

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SNAPSHOTS = 16
LIBRARIES = ("/lib/x86_64-linux-gnu/libm.so.6", "/lib/aarch64-linux-gnu/libm.so.6", "/lib64/libm.so.6")

RECIPE = """
[[do]]
subvolume = "/v"
[[do]]
file = "/v/plain"
stamp = "plain"
size = "1M"
[[do]]
reflink = "/v/reflink"
from = "/v/plain"
[[do]]
file = "/v/other"
stamp = "other"
size = "1M"
[[do]]
file = "/v/inline"
text = "a few bytes, which lie in the metadata"
[[do]]
file = "/v/compressed"
pattern = "well compressible"
size = "300K"
compress = "zstd"
[[do]]
file = "/v/libm.so"
host = "libm.so"
"""


@pytest.fixture(autouse=True)
def _fuse() -> None:
    require_fuse()


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Give an image of a subvolume and its snapshots; the numbers are 256 and those that follow."""
    directory = tmp_path_factory.mktemp("sharing")
    recipe, made = directory / "recipe.toml", str(directory / "image")
    shutil.copy(next(filter(os.path.exists, LIBRARIES)), directory / "libm.so")
    snapshots = "".join(f'[[do]]\nsnapshot = "/s{i}"\nof = "/v"\n' for i in range(SNAPSHOTS))
    recipe.write_text(RECIPE + snapshots)
    done = btrimg("build", recipe, "-o", made)
    assert done.returncode == 0, done.stderr
    return made


def mapped(path: str) -> mmap.mmap:
    """Map a file."""
    with open(path, "rb") as file:
        return mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ, flags=mmap.MAP_SHARED)


@pytest.fixture
def top(image: str) -> Iterator[str]:
    with mounted([image], "--share", "passthrough") as where:
        yield where


@pytest.mark.parametrize("name", ["plain", "inline", "compressed"])
def test_a_file_in_all_snapshots_is_in_memory_once(name: str, top: str) -> None:
    files = [mapped(f"{top}/{subvolume}/{name}") for subvolume in ("v", *(f"s{i}" for i in range(SNAPSHOTS)))]
    assert {file[:] for file in files} == {files[0][:]}
    frames = frames_of(*files)
    assert frames == frames[:1] * len(files)


def test_reflinks_share_and_others_do_not(top: str) -> None:
    plain, reflink, other = frames_of(*(mapped(f"{top}/v/{name}") for name in ("plain", "reflink", "other")))
    assert plain == reflink
    assert not {*plain} & {*other}


def test_what_was_read_is_mapped_from_the_same_frames(top: str) -> None:
    with open(f"{top}/v/plain", "rb") as file:
        content = file.read()
    snapshot, reflink = mapped(f"{top}/s3/plain"), mapped(f"{top}/v/reflink")
    assert snapshot[:] == content
    one, other = frames_of(snapshot, reflink)
    assert one == other


def test_domains_share_within_only(image: str) -> None:
    with mounted([image], "--domain", "one=256,257", "--domain", "two=/s1,/s2") as where:
        first, second, third, fourth, alone, alone_too = map(
            set, frames_of(*(mapped(f"{where}/{name}/plain") for name in ("v", "s0", "s1", "s2", "s3", "s4")))
        )
        assert first == second
        assert third == fourth
        assert not first & third
        assert not alone & (first | third | alone_too)


def test_the_statistics_say_what_is_saved(image: str, tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    with mounted([image], "--share", "passthrough", "--stats-socket", path) as where:
        for subvolume in ("v", "s0", "s1"):
            with open(f"{where}/{subvolume}/plain", "rb") as file:
                assert len(file.read()) == MIB
        with open(f"{where}/v/reflink", "rb"):
            pass
        done = btrimg("cache", "top", where, "--json")
        assert done.returncode == 0, done.stderr
        found = json.loads(done.stdout)
        assert (found["share"], found["files"], found["contents"], found["resident"]) == ("passthrough", 4, 1, MIB)
        assert found["saved"] == 3 * MIB == sum(row["saved"] for row in found["subvolumes"])
        assert {row["path"]: row["files"] for row in found["subvolumes"]} == {"/v": 2, "/s0": 1, "/s1": 1}
        assert [(row["path"], row["sharers"]) for row in found["most_shared"]] == [("/v/plain", 4)]
        text = btrimg("cache", "top", where).stdout
        assert "1.00MiB resident for 4 files of 1 contents, 3.00MiB saved" in text
        with socket.socket(socket.AF_UNIX) as peer:
            peer.connect(path)
            assert json.loads(peer.makefile().read()) == found
    assert not os.path.exists(path)


def test_without_sharing_every_file_has_its_own(image: str) -> None:
    with mounted([image], "--share", "none") as where:
        one, other = frames_of(mapped(f"{where}/v/plain"), mapped(f"{where}/s0/plain"))
        assert not {*one} & {*other}


def test_a_shared_library_executed_from_two_snapshots_shares_its_text(top: str) -> None:
    first, second = executed(f"{top}/v/libm.so", f"{top}/s7/libm.so")
    assert sum(map(bool, first)) > 1
    both = [(one, other) for one, other in zip(first, second, strict=True) if one and other]
    assert both
    assert all(one == other for one, other in both)


def executed(*paths: str) -> list[list[int]]:
    """Return the frames of the executable pages of libraries that another process has loaded and called."""
    code = (
        "import ctypes, sys, json\n"
        "sys.path[:0] = json.loads(sys.argv[1])\n"
        "from support.frames import frames_at\n"
        "for library in map(ctypes.CDLL, sys.argv[2:]):\n"
        "    library.cos.restype = library.sin.restype = ctypes.c_double\n"
        "    library.cos(ctypes.c_double(1)); library.sin(ctypes.c_double(1))\n"
        "lines = open('/proc/self/maps').read().splitlines()\n"
        "text = [next(line for line in lines if line.endswith(path) and ' r-xp ' in line) for path in sys.argv[2:]]\n"
        "ends = [[int(word, 16) for word in line.split()[0].split('-')] for line in text]\n"
        "before = found = None\n"
        "while found is None or found != before:\n"  # frames change
        "    before, found = found, [frames_at(first, last - first) for first, last in ends]\n"
        "print(json.dumps(found))\n"
    )
    here = json.dumps([os.path.dirname(os.path.dirname(__file__)), *sys.path])
    done = subprocess.run([sys.executable, "-c", code, here, *paths], check=True, capture_output=True, text=True)
    frames: list[list[int]] = json.loads(done.stdout)
    return frames


def test_a_cache_of_ours_shares_what_is_read(image: str) -> None:
    with mounted([image], "--share", "cache", "--cache-size", "2M") as where:
        contents = set()
        for subvolume in ("v", *(f"s{i}" for i in range(SNAPSHOTS))):
            with open(f"{where}/{subvolume}/plain", "rb") as file:
                contents.add(file.read())
        assert len(contents) == 1
        found = json.loads(btrimg("cache", "top", where, "--json").stdout)
        assert (found["share"], found["files"], found["resident"]) == ("cache", SNAPSHOTS + 1, MIB)
        assert found["saved"] == SNAPSHOTS * MIB
        with open(f"{where}/v/other", "rb") as other, open(f"{where}/v/compressed", "rb") as compressed:
            assert len(other.read()) + len(compressed.read()) == MIB + 300 * 1024
        found = json.loads(btrimg("cache", "top", where, "--json").stdout)
        assert found["resident"] <= 2 * MIB
        assert mapped(f"{where}/v/plain")[:] == contents.pop()
