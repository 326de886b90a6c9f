"""What programs see in a mount is what they see in the kernel's: names, attributes, bytes, holes, special files."""

from __future__ import annotations

import os
import stat
import time
from typing import TYPE_CHECKING, Any

import pytest
from support import kernel, odd
from support.matrix import name_of, options_of, variants
from support.mounted import mounted, require_fuse

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from support.images import KernelImage
    from support.truth import Entry

pytestmark = [pytest.mark.kernel, pytest.mark.progs]

_SAME = ("nlink", "uid", "gid", "mode", "size", "atime", "btime", "ctime", "mtime", "rdev_major", "rdev_minor")
_MADE_UP = ("atime", "btime", "ctime", "mtime")  # by the kernel, for a placeholder: its "now"
#: One cell of each node size, checksum and compression; the reading of all profiles has tests of its own.
CELLS = sorted({*{value: cell for cell in variants() for value in cell[1:]}.values()})


@pytest.fixture(autouse=True)
def _fuse() -> None:
    require_fuse()


def compare_entry(top: bytes, entry: Entry) -> None:
    """Hold one name in a mount against what the kernel showed of it."""
    path = top + entry.path
    found, expected = kernel.stat(path), entry.stat
    names = [name for name in _SAME if not (entry.is_placeholder and name in _MADE_UP)]
    assert {name: getattr(found, name) for name in names} == {name: getattr(expected, name) for name in names}
    if not entry.is_placeholder:
        assert found.blocks == expected.blocks
        listed = {os.fsencode(name) for name in os.listxattr(path, follow_symlinks=False)}
        assert {name: os.getxattr(path, name, follow_symlinks=False) for name in listed} == entry.xattrs
    if entry.names is not None:
        assert tuple(os.listdir(path)) == entry.names

    if entry.target is not None:
        assert os.readlink(path) == entry.target
    if entry.content is not None:
        with kernel.opened(path) as fd:
            assert os.pread(fd, found.size + 1, 0) == entry.content


@pytest.mark.parametrize("cell", CELLS, ids=name_of)
def test_everything_the_kernel_shows_is_in_the_mount(cell: Any, kernel_image: Callable[..., KernelImage]) -> None:
    written = kernel_image(**options_of(cell))
    with mounted(written.devices) as top:
        for entry in written.truth.entries.values():
            compare_entry(os.fsencode(top), entry)


@pytest.fixture(scope="module", params=["passthrough", "cache", "none"])
def sides(request: pytest.FixtureRequest, kernel_image: Callable[..., KernelImage]) -> Iterator[tuple[str, str, Any]]:
    """Give the same image mounted by btrimg and by the kernel, and what the kernel said of it."""
    require_fuse()
    written = kernel_image()
    with mounted(written.devices, "--share", request.param) as ours, written.mount() as theirs:
        yield ours, theirs, written.truth


def regular(truth: Any) -> Iterator[bytes]:
    return (path for path, entry in truth.entries.items() if stat.S_ISREG(entry.stat.mode))


def segments(path: bytes) -> list[tuple[int, int]]:
    """Return where a file has data, by SEEK_DATA and SEEK_HOLE."""
    found, at = [], 0
    with kernel.opened(path) as fd:
        size = os.fstat(fd).st_size
        while at < size:
            try:
                start = os.lseek(fd, at, os.SEEK_DATA)
            except OSError:
                break
            at = os.lseek(fd, start, os.SEEK_HOLE)
            found.append((start, at))
    return found


def test_holes_are_where_the_kernel_has_them(sides: tuple[str, str, Any]) -> None:
    ours, theirs, truth = sides
    found = {path: segments(os.fsencode(ours) + path) for path in regular(truth)}
    assert found == {path: segments(os.fsencode(theirs) + path) for path in found}
    assert any(len(ranges) > 1 for ranges in found.values())


def test_the_longest_files_are_read_to_their_end(tmp_path: Path) -> None:
    devices = odd.longest(str(tmp_path))
    found: list[dict[str, object]] = []
    with mounted(devices) as ours, kernel.mount(devices, read_only=True) as theirs:
        for top in ours, theirs:
            found.append({})
            for name in "hole", "data", "both":
                path = os.fsencode(f"{top}/{name}")
                with kernel.opened(path) as fd:
                    size = os.fstat(fd).st_size
                    assert size > 1 << 62
                    read = [os.pread(fd, 200, at) for at in (0, 1 << 62, odd.LONGEST // 2, size - 200)]
                    found[-1][name] = size, read
                if name != "data":  # whose end the kernel says to be before its start: it overflows
                    found[-1][f"{name}, segments"] = segments(path)
    assert found[0] == found[1]


def test_reads_at_odd_offsets_give_the_same_bytes(sides: tuple[str, str, Any]) -> None:
    ours, _, truth = sides
    for path in regular(truth):
        content = truth.entries[path].content
        if content is None:
            continue
        with kernel.opened(os.fsencode(ours) + path) as fd:
            for offset in (1, 4095, len(content) // 3, max(len(content) - 5, 0), len(content), len(content) + 4096):
                assert os.pread(fd, 5000, offset) == content[offset : offset + 5000]


def test_every_inode_has_a_number_of_its_own_and_hard_links_share_it(sides: tuple[str, str, Any]) -> None:
    ours, _, truth = sides
    numbers: dict[tuple[int, int], int] = {}
    for path, entry in truth.entries.items():
        if not entry.is_placeholder:
            found = kernel.stat(os.fsencode(ours) + path)
            numbers.setdefault((entry.subvolume, entry.stat.ino), found.ino)
            assert numbers[entry.subvolume, entry.stat.ino] == found.ino
    assert len(set(numbers.values())) == len(numbers)
    assert all(number == ino for (subvolume, ino), number in numbers.items() if subvolume == kernel.TOP_LEVEL)


def test_nothing_can_be_written(sides: tuple[str, str, Any]) -> None:
    ours = sides[0]
    for attempt in (lambda: os.mkdir(f"{ours}/new"), lambda: os.open(f"{ours}/new", os.O_CREAT | os.O_WRONLY)):
        with pytest.raises(OSError, match="Read-only file system"):
            attempt()


def test_what_can_be_executed_is_what_the_kernel_says(sides: tuple[str, str, Any]) -> None:
    ours, theirs, truth = sides
    found = {path: os.access(os.fsencode(ours) + path, os.X_OK) for path in regular(truth)}
    assert found == {path: os.access(os.fsencode(theirs) + path, os.X_OK) for path in found}
    assert False in found.values()


def test_missing_names_and_xattrs_are_not_there(sides: tuple[str, str, Any]) -> None:
    ours = sides[0]
    for _ in range(2):  # the second answer is the kernel's own
        assert not os.path.lexists(f"{ours}/no such name")
    with pytest.raises(OSError, match="No data available"):
        os.getxattr(ours, "user.no such name")
    with pytest.raises(OSError, match="File name too long"):
        os.stat(f"{ours}/{'x' * 256}")


def test_a_subvolume_is_mounted_by_its_id(kernel_image: Callable[..., KernelImage]) -> None:
    written = kernel_image()
    number, subvolume = next((n, s) for n, s in written.truth.subvolumes.items() if s.path != b"/")
    with mounted(written.devices, "--subvolume", number) as top:
        inside = [entry for path, entry in written.truth.entries.items() if path.startswith(subvolume.path + b"/")]
        assert len(inside) > 3
        for entry in inside:
            compare_entry(os.fsencode(top), entry._replace(path=entry.path.removeprefix(subvolume.path)))
        assert kernel.stat(os.fsencode(top)).ino == kernel.SUBVOLUME_INO


def test_times_before_1970_are_kept(kernel_image: Callable[..., KernelImage]) -> None:
    """The protocol's seconds are unsigned, the kernel's and btrfs's are not."""
    old = [entry for entry in kernel_image().truth.entries.values() if entry.stat.mtime < 0]
    with mounted(kernel_image().devices) as top:
        for entry in old:
            assert kernel.stat(os.fsencode(top) + entry.path).mtime == entry.stat.mtime
    assert time.time() > 0


@pytest.mark.parametrize("cell", [cell for cell in variants() if cell.profile == "raid5"][:1], ids=name_of)
def test_files_are_read_from_a_degraded_array(cell: Any, kernel_image: Callable[..., KernelImage]) -> None:
    written = kernel_image(**options_of(cell))
    with mounted(written.devices[:-1]) as top:
        for path, entry in list(written.truth.entries.items())[:300]:
            if entry.content:
                with kernel.opened(os.fsencode(top) + path) as fd:
                    assert os.pread(fd, len(entry.content), 0) == entry.content
