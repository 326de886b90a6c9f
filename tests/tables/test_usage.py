"""Accounting against ``btrfs filesystem du``, compsize, and what deleting subvolumes really frees."""

from __future__ import annotations

import os
import re
import shutil
import stat
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some
from support import kernel

from btrimg.filesystem.image import Image, open_image
from btrimg.ondisk.constants import EMPTY_SUBVOL_DIR_OBJECTID
from btrimg.tables.usage import Usage, union
from btrimg.tables.usagetree import Compressed, Tree, compression_of, totals, tree_below

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from support.images import KernelImage

VARIANTS = (
    {"profile": "raid10", "nodesize": 4096, "csum": "sha256", "compression": "zstd"},
    {"profile": "raid5", "nodesize": 16384, "csum": "xxhash", "compression": "lzo"},
    {"profile": "raid1c3", "nodesize": 4096, "features": ("^no-holes",)},
    {"profile": "single", "metadata_profile": "dup", "nodesize": 65536, "csum": "blake2", "compression": "zlib"},
)
PATHS = (
    b"/",
    b"/sub",
    b"/sub/tree",
    b"/plain",
    b"/compressed",
    b"/prealloc",
    b"/reflinks",
    b"/snaps",
    b"/links-elsewhere",
)
HOLDING_LINKS_INTO_OTHERS = {b"/sub/tree", *(b"/snaps/%s/tree" % name for name in (b"ro", b"rw", b"of-ro", b"of-rw"))}
ROW = re.compile(rb" *(\d+) +(\d+) +(\d+|-)  (.*)")


class Used(NamedTuple):
    total: int
    exclusive: int
    set_shared: int | None = None


@pytest.fixture(params=VARIANTS, ids=lambda options: options["profile"])
def written(request: pytest.FixtureRequest, kernel_image: Callable[..., KernelImage]) -> KernelImage:
    return kernel_image(**request.param)


@pytest.fixture
def opened(written: KernelImage) -> Iterator[tuple[Image, Usage]]:
    with open_image(written.devices) as image:
        yield image, Usage(image)
        assert image.faults == 0


def progs_du(path: bytes) -> dict[bytes, Used]:
    """Return what ``btrfs filesystem du`` says, by path; names may hold newlines."""
    found: dict[bytes, Used] = {}
    name = b""
    said = os.fsencode(kernel.run("btrfs", "filesystem", "du", "--raw", os.fsdecode(path)))
    for line in said.split(b"\n")[1:-1]:
        if row := ROW.fullmatch(line):
            name = row[4]
            found[name] = Used(int(row[1]), int(row[2]), None if row[3] == b"-" else int(row[3]))
        else:
            found[name + b"\n" + line] = found.pop(name)
            name += b"\n" + line
    return found


def by_path(usage: Usage, tree: Tree) -> Iterator[tuple[bytes, Used]]:
    total, exclusive = (column.tolist() for column in totals(usage, tree))
    shared = usage.space(tree.row_of_use >= 0).set_shared
    for row, path in enumerate(tree.paths.to_list()):
        yield path, Used(total[row], exclusive[row], None if row else shared)


def identity(path: bytes) -> tuple[int, int] | bytes:
    """Return what tells a file apart whatever its name: it has one row, btrfs-progs' under the name they meet first."""
    info = os.lstat(path)
    return path.rstrip(b"/") if stat.S_ISDIR(info.st_mode) else (info.st_dev, info.st_ino)


@pytest.mark.kernel
def test_every_path_has_what_btrfs_filesystem_du_says(written: KernelImage, opened: tuple[Image, Usage]) -> None:
    image, usage = opened
    rows = 0
    with written.mount() as mounted:
        top = os.fsencode(mounted)
        for path in PATHS:
            ours = {identity(top + name): row for name, row in by_path(usage, tree_below(usage, image.open(path)))}
            theirs = {
                identity(name): row
                for name, row in progs_du(top + path.rstrip(b"/")).items()
                if os.lstat(name).st_ino != EMPTY_SUBVOL_DIR_OBJECTID  # btrfs-progs list stand-ins of subvolumes, too
            }
            assert ours.keys() == theirs.keys()
            assert {name for name, row in ours.items() if row != theirs[name]} <= {
                top + name for name in HOLDING_LINKS_INTO_OTHERS
            }
            rows += len(ours)
    assert rows > 1500


@pytest.mark.kernel
def test_compression_is_what_compsize_says(written: KernelImage, opened: tuple[Image, Usage]) -> None:
    if not shutil.which("compsize"):
        pytest.skip("compsize not found (package btrfs-compsize)")
    image, usage = opened
    with written.mount() as top:
        for path in (*PATHS, b"/plain/base", b"/compressed/zstd/inline"):
            said = kernel.run("compsize", "--bytes", top + os.fsdecode(path))
            found = compression_of(usage, tree_below(usage, image.open(path)))
            counts = re.match(r"Processed (\d+) files?, (\d+) regular extents? \((\d+) refs?\), (\d+) inline", said)
            assert counts
            assert tuple(map(int, counts.groups())) == found[:4]
            rows = re.findall(r"^(\w+) +\d+% +(\d+) +(\d+) +(\d+)", said, re.M)
            theirs = {name: Compressed(*map(int, sums)) for name, *sums in rows}
            assert theirs == {"TOTAL": found.total} | found.types


@pytest.mark.kernel
def test_deleting_frees_the_extents_that_nobody_else_uses(opened: tuple[Image, Usage]) -> None:
    usage = opened[1]
    users: dict[int, set[int]] = {}
    for extent, number in zip(usage.uses.extent.tolist(), usage.uses.subvolume.tolist(), strict=True):
        users.setdefault(extent, set()).add(usage.subvolumes[number])
    lengths = usage.extents.length.tolist()
    sets = [{each} for each in usage.subvolumes] + [set(usage.subvolumes[1:end]) for end in range(3, 9)]
    freed = [sum(lengths[extent] for extent, ids in users.items() if ids <= deleted) for deleted in sets]
    assert [usage.freed_by(deleted) for deleted in sets] == freed
    assert usage.freed_by_each().tolist() == freed[: len(usage.subvolumes)]
    assert len(set(freed)) > 4


@pytest.mark.kernel
def test_bookends_hide_what_was_overwritten(kernel_image: Callable[..., KernelImage]) -> None:
    image = kernel_image(**VARIANTS[2])
    with open_image(image.devices) as opened:
        usage = Usage(opened)
        uses, extents = usage.uses, usage.extents
        assert len(extents.logical) > 100
        for number in range(len(extents.logical)):
            whole = np.zeros(extents.ram_bytes[number] // 512, np.bool_)
            for row in np.flatnonzero(uses.extent == number):
                whole[uses.skipped[row] // 512 : (uses.skipped[row] + uses.length[row]) // 512] = True
            plain = extents.length[number] == extents.ram_bytes[number]
            assert extents.unreachable[number] == (np.sum(~whole) * 512 if plain else 0)
        hidden = usage.space(tree_below(usage, opened.open(b"/nodatasum/file-0")).row_of_use >= 0).unreachable
        assert hidden == 4096 * 7  # of its first extent blocks 9 to 12, 20 and 21; block 10 of what was put there first
        assert usage.space(slice(None)).unreachable == extents.unreachable.sum() > 0


RANGES = some.lists(some.tuples(some.integers(0, 300), some.integers(0, 60)))


@given(RANGES)
def test_a_union_counts_every_byte_once(ranges: list[tuple[int, int]]) -> None:
    start, length = np.array(ranges, np.int64).reshape(-1, 2).T
    assert union(start, length) == len({byte for first, size in ranges for byte in range(first, first + size)})
