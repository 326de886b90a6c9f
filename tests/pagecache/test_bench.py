"""The shared cache beside a mount: what is measured, and that nothing stays mounted."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest
from support import kernel
from support.fresh import make_empty
from support.images import mkfs, new_devices

from btrimg.errors import NotFoundError
from btrimg.filesystem.image import open_image
from btrimg.pagecache import residency
from btrimg.pagecache.bench import find_sharers
from btrimg.pagecache.filerows import of_image
from btrimg.pagecache.views import Views
from btrimg.units import MIB

if TYPE_CHECKING:
    from pathlib import Path

SIZE = 4 * MIB
CLONES = 16


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Have the kernel write a file, 16 reflinks of it and a larger file without any."""
    (device,) = new_devices(str(tmp_path_factory.mktemp("shared")), 1, 256 * MIB)
    mkfs([device], "single", "dup")
    with kernel.mount([device]) as top:
        with open(f"{top}/file", "wb") as file, open(f"{top}/larger", "wb") as larger:
            file.write(random.Random(1).randbytes(SIZE))
            larger.write(random.Random(2).randbytes(3 * SIZE))
        kernel.sync(top)
        for number in range(CLONES):
            kernel.clone(f"{top}/file", f"{top}/clone{number}")
    return device


def _bench(*words: str) -> list[dict[str, Any]]:
    command = [sys.executable, "-m", "btrimg", "cache", "bench", "--json", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return [json.loads(line) for line in done.stdout.splitlines()]


def _is_about(found: int, size: int) -> bool:
    """Return whether the kernel holds *size* bytes, but for pages that it has taken back since."""
    return 0.9 * size <= found <= size


@pytest.mark.kernel
@pytest.mark.progs
def test_the_mounts_memory_grows_by_every_file_and_the_caches_does_not(shared: str) -> None:
    found = {each["name"]: each for each in _bench("--all-files", shared)}
    for count in (1, 4, 16):
        each = found[f"resident-{count}"]
        assert each["cache"] == SIZE
        assert _is_about(each["mount"], count * SIZE)
        assert each["ratio"] == round(each["cache"] / each["mount"], 3)
    assert _is_about(found["resident-17"]["mount"], 17 * SIZE)
    frames = found["view-frames"]
    assert (frames["cache"], frames["mount"]) == (SIZE // 4096, 2 * SIZE // 4096)
    everything = found["everything-resident"]
    assert everything["cache"] == 4 * SIZE
    assert _is_about(everything["mount"], 20 * SIZE)
    for name in ("view", "copy", "readinto", "everything"):
        assert found[name]["ratio"] > 0
    assert not kernel.still_attached([shared])


def test_without_a_mount_only_the_cache_is_measured(demo_image: str) -> None:
    found = _bench("--no-mount", demo_image)
    assert {each["mount"] for each in found} == {None}
    assert found[0]["name"] == "resident-1"
    assert {"view", "copy", "readinto", "translation"} <= {each["name"] for each in found}


@pytest.mark.kernel
@pytest.mark.progs
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_nothing_stays_when_it_is_stopped(shared: str, number: int) -> None:
    command = [sys.executable, "-m", "btrimg", "cache", "bench", shared]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as running:
        end = time.monotonic() + 60
        while not _is_attached(shared) and running.poll() is None and time.monotonic() < end:
            time.sleep(0.005)
        assert running.poll() is None
        running.send_signal(number)
        assert running.wait() == 128 + number
    assert not kernel.still_attached([shared])


def _is_attached(image: str) -> bool:
    for loop in os.listdir("/sys/block"):
        try:
            with open(f"/sys/block/{loop}/loop/backing_file", encoding="utf-8") as file:
                if file.read().rstrip("\n") == image:
                    return True
        except OSError:
            continue
    return False


@pytest.mark.kernel
@pytest.mark.progs
def test_those_are_read_by_which_sharing_saves_most(shared: str) -> None:
    with open_image(shared) as image:
        found = find_sharers(image, of_image(image, named=True))
        assert found.size == SIZE
        assert sorted(found.paths) == sorted([b"/file", *(b"/clone%d" % number for number in range(CLONES))])
        assert len(find_sharers(image, of_image(image, named=True), most=2).paths) == 1  # the larger file


def test_an_image_without_files_has_nothing_to_measure(tmp_path: Path) -> None:
    path = str(tmp_path / "empty.img")
    make_empty(path, 128 * MIB)
    with open_image(path) as image, pytest.raises(NotFoundError, match="no file"):
        find_sharers(image, of_image(image, named=True))


def test_pages_in_memory_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(10 * 4096 + 1))
    assert residency.resident(str(path)) == 11 * 4096
    (tmp_path / "empty").touch()
    assert residency.resident(str(tmp_path / "empty")) == 0


@pytest.mark.kernel
def test_frames_are_those_of_views(demo_image: str) -> None:
    with open_image(demo_image) as image:
        found = find_sharers(image, of_image(image, named=True))
        views = [residency.frames(Views(image).view(inode)) for inode in found.inodes[:2]]
        assert views[0].tolist() == views[-1].tolist()
        assert len(set(views[0].tolist())) == -(-found.size // 4096)
