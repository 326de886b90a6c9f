"""The small ``inspect`` commands against btrfs-progs, on what the kernel wrote."""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from support import images, kernel
from support.dump_text import progs_version, run_progs

from btrimg.cli.find_root import find_root
from btrimg.cli.map_swapfile import map_swapfile
from btrimg.cli.min_dev_size import min_dev_size
from btrimg.cli.rootid import rootid
from btrimg.cli.subvolid_resolve import subvolid_resolve
from btrimg.cli.tree_stats import tree_stats
from btrimg.render.text import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from support.images import KernelImage

    from btrimg.cli.command import Command

pytestmark = [pytest.mark.kernel, pytest.mark.progs]

MIB = 1 << 20
WRITTEN: dict[str, dict[str, Any]] = {
    "mixed": {"profile": "dup", "nodesize": 4096, "mkfs_options": ("--mixed",)},
    "raid10": {"profile": "raid10", "nodesize": 4096},
}


@pytest.fixture(params=WRITTEN)
def written(request: pytest.FixtureRequest, kernel_image: Callable[..., KernelImage]) -> KernelImage:
    return kernel_image(**WRITTEN[request.param])


def further(devices: Sequence[str]) -> list[str]:
    return [word for device in devices[1:] for word in ("--device", device)]


@pytest.fixture
def ours(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Give a function that runs a command of ours and returns what it printed, and its complaint if it failed."""

    def run(command: Command, *words: str) -> str:
        arguments = command.parse(words)
        assert arguments is not None, f"{words} are not plain"
        capsys.readouterr()
        code = command.run(**arguments)
        printed = capsys.readouterr()
        assert bool(code) == bool(printed.err)
        return printed.err if code else printed.out

    return run


def theirs(*words: str) -> str:
    return kernel.run("btrfs", "inspect-internal", *words)


def test_every_subvolume_has_its_path(written: KernelImage, ours: Callable[..., str]) -> None:
    assert len(written.truth.subvolumes) > 5
    with written.mount() as top:
        for number in written.truth.subvolumes:
            expected = printable(os.fsencode(theirs("subvolid-resolve", str(number), top)).removesuffix(b"\n"))
            found = ours(subvolid_resolve, str(number), written.devices[0], *further(written.devices))
            assert found == f"{expected}\n"


def test_files_and_directories_are_in_their_subvolumes(written: KernelImage, ours: Callable[..., str]) -> None:
    """Of files only the kernel tells: btrfs-progs 6.2 open them for writing."""
    chosen: dict[tuple[int, bool], bytes] = {}
    for path, entry in written.truth.entries.items():
        chosen.setdefault((entry.subvolume, stat.S_ISDIR(entry.stat.mode)), path)
    assert len(chosen) > 10
    with written.mount() as top:
        for (subvolume, is_directory), path in chosen.items():
            words = f"{written.devices[0]}:{os.fsdecode(path)}", *further(written.devices)
            if not stat.S_ISLNK(written.truth.entries[path].stat.mode):
                assert ours(rootid, *words) == f"{subvolume}\n"
            if is_directory:
                assert theirs("rootid", top + os.fsdecode(path)) == f"{subvolume}\n"


def test_devices_have_their_least_size(written: KernelImage, ours: Callable[..., str]) -> None:
    with written.mount() as top:
        for devid in range(1, len(written.devices) + 1):
            words = ("--id", str(devid))
            expected = theirs("min-dev-size", *words, top)
            assert ours(min_dev_size, *words, written.devices[0], *further(written.devices)) == expected


def test_a_device_with_holes_has_its_least_size(tmp_path: Any, ours: Callable[..., str]) -> None:
    devices = images.new_devices(str(tmp_path), 1, 4096 * MIB)
    images.mkfs(devices)
    sizes = []
    with kernel.mount(devices) as top:
        files = [os.path.join(top, f"file-{number}") for number in range(7)]
        for file in files:
            kernel.fallocate(file, 0, 0, 400 * MIB)
        kernel.sync(top)
        for file in (files[0], files[1], files[3], files[5]):
            os.unlink(file)
            kernel.sync(top)
            kernel.run("btrfs", "balance", "start", "-dusage=0", top)
            expected = theirs("min-dev-size", top)
            kernel.sync(top)
            assert ours(min_dev_size, devices[0]) == expected
            sizes.append(int(expected.split()[0]))
    assert len(set(sizes)) > 1


def without_histogram(text: str) -> list[str]:
    """Return the lines but for how long it took and the histogram, of which btrfs-progs leave seeks out."""
    return [line for line in text.splitlines() if not re.match(r"\tTotal read time|\t\t *\d+ - ", line)]


@pytest.mark.parametrize("flags", [[], ["-b"]], ids=" ".join)
def test_statistics_of_trees(
    kernel_image: Callable[..., KernelImage], ours: Callable[..., str], flags: list[str]
) -> None:
    image = kernel_image(**WRITTEN["mixed"])
    named = image.truth.subvolumes if progs_version() >= (6, 19) else ()  # 6.2 fails with -t
    trees = [word for number in named for word in ("-t", str(number))]
    for chosen in ([], *(trees[at : at + 2] for at in range(0, len(trees), 2))):
        found = without_histogram(ours(tree_stats, *flags, *chosen, image.devices[0]))
        assert found == without_histogram(
            run_progs("inspect-internal", "tree-stats", *flags, *chosen, image.devices[0])
        )
    assert found[-1].startswith("\t\tOn level 2") or len(trees) > 10


def test_roots_are_those_that_btrfs_find_root_finds(
    kernel_image: Callable[..., KernelImage], ours: Callable[..., str]
) -> None:
    if not shutil.which("btrfs-find-root"):
        pytest.skip("btrfs-find-root not found (package btrfs-progs)")
    image = kernel_image(**WRITTEN["mixed"])
    for tree in (1, 2, 3, 5, 7):
        printed = kernel.run("btrfs-find-root", "-a", "-o", str(tree), *image.devices)
        expected = re.findall(r"block (\d+)\(gen: (\d+) level: (\d+)\)", printed)
        assert expected
        found = map(json.loads, ours(find_root, "-a", "-o", str(tree), "--json", *image.devices).splitlines())
        assert [(str(each["logical"]), str(each["generation"]), str(each["level"])) for each in found] == expected


# Swap files


class Swapped(NamedTuple):
    """An image with files that may be swap files or not; content by name."""

    devices: tuple[str, ...]
    content: dict[str, bytes]


@pytest.fixture(scope="module")
def swapped(image_directory: str) -> Swapped:
    devices = images.new_devices(os.path.join(image_directory, "swapfiles"), 1, 512 * MIB)
    images.mkfs(devices)
    noise = os.urandom(MIB)
    with kernel.mount(devices) as top:
        kernel.set_nocow(top)

        def write(name: str, content: bytes, offset: int = 0) -> None:
            with kernel.opened(os.path.join(top, name), os.O_WRONLY | os.O_CREAT) as fd:
                os.pwrite(fd, content, offset)
                os.fsync(fd)

        for turn in range(4):
            write("written", noise * 2, turn * 2 * MIB)
            write("between", noise, turn * MIB)
        write("in-mid-sector", noise + b"end")
        kernel.fallocate(os.path.join(top, "reserved"), 0, 0, 8 * MIB)
        kernel.fallocate(os.path.join(top, "reserved-partly-written"), 0, 0, 8 * MIB)
        write("reserved-partly-written", noise, 3 * MIB)
        write("short", b"small")
        write("hole-at-start", noise, MIB)
        write("hole-in-between", noise)
        write("hole-in-between", noise, 3 * MIB)
        write("hole-at-end", noise)
        os.truncate(os.path.join(top, "hole-at-end"), 2 * MIB)
        write("empty", b"")
        write("cloned", noise)
        kernel.clone(os.path.join(top, "cloned"), os.path.join(top, "clone"))
        write("repeats-itself", noise)
        kernel.clone_range(os.path.join(top, "repeats-itself"), 0, MIB, os.path.join(top, "repeats-itself"), MIB)
        write("source", noise + noise[::-1])
        kernel.clone_range(os.path.join(top, "source"), MIB, MIB, os.path.join(top, "second-half"), 0)
        os.unlink(os.path.join(top, "source"))
        for name in ("cow", "compressed"):
            os.mkdir(os.path.join(top, f"{name}-directory"))
        kernel.run("chattr", "-C", os.path.join(top, "cow-directory"), os.path.join(top, "compressed-directory"))
        kernel.set_compression(os.path.join(top, "compressed-directory"), "zstd")
        write("cow-directory/file", noise)
        write("compressed-directory/file", bytes(MIB))
        kernel.create_subvolume(os.fsencode(top) + b"/snapshotted")
        kernel.run("chattr", "+C", os.path.join(top, "snapshotted"))
        write("snapshotted/file", noise)
        kernel.create_snapshot(os.fsencode(top) + b"/snapshotted", os.fsencode(top) + b"/snapshot", read_only=True)
        kernel.sync(top)
    with kernel.mount(devices, read_only=True) as top:
        content = {}
        for name in ("written", "between", "in-mid-sector", "second-half"):
            with open(os.path.join(top, name), "rb") as file:
                content[name] = file.read()
    return Swapped(devices, content)


@pytest.mark.parametrize("name", ["written", "between", "in-mid-sector", "reserved", "reserved-partly-written"])
@pytest.mark.parametrize("flags", [[], ["-r"]], ids=" ".join)
def test_a_swap_file_starts_where_btrfs_says(
    swapped: Swapped, ours: Callable[..., str], name: str, flags: list[str]
) -> None:
    with kernel.mount(swapped.devices, read_only=True) as top:
        expected = theirs("map-swapfile", *flags, f"{top}/{name}")
    assert ours(map_swapfile, *flags, f"{swapped.devices[0]}:/{name}") == expected


@pytest.mark.parametrize("name", ["written", "between", "second-half"])
def test_a_swap_file_starts_where_its_first_page_is(swapped: Swapped, ours: Callable[..., str], name: str) -> None:
    """Of an extent used from its middle on, btrfs-progs 6.19 gives the start."""
    found = json.loads(ours(map_swapfile, "--json", f"{swapped.devices[0]}:/{name}"))
    assert (found["devid"], found["resume_offset"]) == (1, found["physical"] // os.sysconf("SC_PAGESIZE"))
    with open(swapped.devices[0], "rb") as device:
        device.seek(found["physical"])
        assert device.read(4096) == swapped.content[name][:4096]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("cow-directory/file", "file is not NOCOW"),
        ("compressed-directory/file", "file is not NOCOW"),
    ],
)
def test_what_btrfs_refuses_is_refused_in_its_words(
    swapped: Swapped, ours: Callable[..., str], name: str, reason: str
) -> None:
    with kernel.mount(swapped.devices, read_only=True) as top, pytest.raises(RuntimeError, match=reason):
        theirs("map-swapfile", f"{top}/{name}")
    assert ours(map_swapfile, f"{swapped.devices[0]}:/{name}") == f"btrimg: {reason}\n"


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("short", "file is shorter than a sector"),
        ("hole-at-start", "file with holes"),
        ("hole-in-between", "file with holes"),
        ("hole-at-end", "file with holes"),
        ("empty", "file is shorter than a sector"),
        ("cloned", "file shares extents with another one or a snapshot"),
        ("clone", "file shares extents with another one or a snapshot"),
        ("repeats-itself", "file shares extents with another one or a snapshot"),
        ("snapshotted/file", "file shares extents with another one or a snapshot"),
        ("snapshotted", "not a regular file"),
    ],
)
def test_what_only_the_kernel_refuses_is_refused(
    swapped: Swapped, ours: Callable[..., str], name: str, reason: str
) -> None:
    """btrfs-progs see holes only where there are items for them, which mkfs no longer asks for."""
    assert ours(map_swapfile, f"{swapped.devices[0]}:/{name}") == f"btrimg: {reason}\n"


@pytest.mark.parametrize("profile", ["dup", "raid0", "raid1"])
def test_only_single_chunks_hold_swap_files(tmp_path: Any, ours: Callable[..., str], profile: str) -> None:
    devices = images.new_devices(str(tmp_path), images.DEVICES[profile], 256 * MIB)
    images.mkfs(devices, profile)
    with kernel.mount(devices) as top:
        kernel.set_nocow(top)
        kernel.fallocate(f"{top}/file", 0, 0, MIB)
        kernel.sync(top)
        with pytest.raises(RuntimeError, match="unsupported block group profile"):
            theirs("map-swapfile", f"{top}/file")
    found = ours(map_swapfile, f"{devices[0]}:/file", *further(devices))
    assert found == f"btrimg: unsupported block group profile: {profile}\n"


def test_a_swap_file_is_on_one_device(tmp_path: Any, ours: Callable[..., str]) -> None:
    devices = images.new_devices(str(tmp_path), 3, 400 * MIB)
    images.mkfs(devices)
    with kernel.mount(devices) as top:
        kernel.set_nocow(top)
        for name in ("large", "small"):
            kernel.fallocate(f"{top}/{name}", 0, 0, (600 if name == "large" else 1) * MIB)
        kernel.sync(top)
    assert ours(map_swapfile, f"{devices[0]}:/large", *further(devices)) == "btrimg: file stored on multiple devices\n"
    assert ours(map_swapfile, f"{devices[0]}:/small", *further(devices)).startswith("Physical start: ")
