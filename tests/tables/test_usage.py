"""Accounting against ``btrfs filesystem du``, compsize, and what deleting subvolumes really frees."""

from __future__ import annotations

import os
import re
import shutil
import stat
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as some
from support import kernel
from support.forge import edit_leaf
from support.images import copy_sparse
from support.matrix import name_of, options_of, variants

from btrimg.filesystem import strings
from btrimg.filesystem.forest import item_roots, superblock_roots
from btrimg.filesystem.image import open_image
from btrimg.filesystem.leafrows import DIRECTORY, FILE
from btrimg.ondisk.blocks import Key
from btrimg.ondisk.constants import BlockGroup, FileType, ItemType, TreeId
from btrimg.ondisk.items import parse
from btrimg.render.usage import compression_lines
from btrimg.tables.usage import Freed, Tally, Usage, covered, union
from btrimg.tables.usagetree import Compression, CompressionTally, _in_order, path_of, walk
from btrimg.trees.block import is_subvolume

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from support.images import KernelImage
    from support.powerloss import CutImage

    from btrimg.filesystem.image import Image

ODD = {"profile": "raid1c3", "nodesize": 4096, "features": ("^no-holes",)}
PATHS = (
    *(b"/sub", b"/sub/tree", b"/plain", b"/compressed", b"/prealloc", b"/reflinks", b"/snaps", b"/links-elsewhere"),
    *(b"/plain/base", b"/compressed/zstd/inline", b"/reflinks/0-repeat"),
)
ROW = re.compile(rb" *(\d+) +(\d+) +(\d+|-)  (.*)")


class Used(NamedTuple):
    path: bytes
    total: int
    exclusive: int
    set_shared: int | None = None


def progs_du(top: bytes, path: bytes) -> list[Used]:
    """Return what ``btrfs filesystem du`` says, row by row; names may hold newlines."""
    found: list[Used] = []
    said = os.fsencode(kernel.run("btrfs", "filesystem", "du", "--raw", os.fsdecode(top + path.rstrip(b"/"))))
    for line in said.split(b"\n")[1:-1]:
        if row := ROW.fullmatch(line):
            name = row[4].removeprefix(top) or b"/"
            found.append(Used(name, int(row[1]), int(row[2]), None if row[3] == b"-" else int(row[3])))
        else:
            found[-1] = found[-1]._replace(path=found[-1].path + b"\n" + line)
    return found


def du(usage: Usage, image: Image, path: bytes) -> tuple[list[Used], Compression]:
    """Return what btrimg says of *path*: the rows of ``du``, and what compsize would say."""
    top = image.open(path)
    tally, compression = Tally(usage), CompressionTally(usage)
    rows: list[Used] = []
    for section in walk(usage, top):
        tally.add(section.fresh)
        compression.add(section)
        paths = strings.join(section.directories, section.above, section.names, section.name).to_list()
        rows += map(Used, paths, section.total.tolist(), section.exclusive.tolist())
    total, exclusive, set_shared, _ = tally.space()
    rows.append(Used(path, total, exclusive, set_shared if top.is_directory else total - exclusive))
    assert path_of(usage, top) == path.rstrip(b"/")
    return rows, compression.compression()


def agree(written: KernelImage, paths: tuple[bytes, ...]) -> int:
    """Hold ``du`` and compsize of *paths* against btrimg's answers; return how many rows there were."""
    count = 0
    with open_image(written.devices) as image, written.mount() as mounted:
        usage = Usage(image, named=True)
        for path in paths:
            rows, compression = du(usage, image, path)
            assert rows == progs_du(os.fsencode(mounted), path)
            if shutil.which("compsize"):
                said = kernel.run("compsize", "--bytes", mounted + os.fsdecode(path))
                assert said == "".join(f"{line}\n" for line in compression_lines(compression, str))
            count += len(rows)
        assert image.faults == 0
    return count


@pytest.mark.kernel
@pytest.mark.progs
@pytest.mark.parametrize("cell", variants(), ids=name_of)
def test_every_path_has_what_btrfs_filesystem_du_and_compsize_say(
    cell: Any, kernel_image: Callable[..., KernelImage]
) -> None:
    assert agree(kernel_image(**options_of(cell)), (b"/",)) > 1400


@pytest.mark.kernel
@pytest.mark.progs
def test_parts_of_the_tree_and_files_have_what_they_say(kernel_image: Callable[..., KernelImage]) -> None:
    assert agree(kernel_image(**ODD), (b"/", *PATHS)) > 1500


@pytest.mark.kernel
@pytest.mark.progs
def test_a_replayed_log_is_counted_as_the_files_show(cut_image: Callable[..., CutImage]) -> None:
    cut = cut_image()
    with open_image(cut.devices, replay_log=True) as image:
        rows, _ = du(Usage(image, named=True), image, b"/")
        for path, total, *_ in rows:
            inode = image.open(path)
            if inode.is_regular:
                assert total == sum(row.length for row in inode.extents() if row.kind not in ("inline", "hole"))
        names = {path for path, *_ in rows}
        files = {path for path, entry in cut.replayed.entries.items() if stat.S_ISREG(entry.stat.mode)}
        assert files - names == {b"/linked-too", b"/sub/linked-too"}, "second names"


def blocks_of(image: Image) -> tuple[set[int], set[int]]:
    """Return the addresses of the tree blocks of subvolumes, and of all other trees, found one by one."""
    found: tuple[set[int], set[int]] = set(), set()
    for root in (*superblock_roots(image), *item_roots(image)):
        blocks, pending = found[not is_subvolume(root.id)], [root.at]
        while pending:
            at = pending.pop()
            if at.logical not in blocks:
                blocks.add(at.logical)
                block = image.blocks.read(at)
                pending += block.children(range(len(block)), at) if at.level else []
    return found


def used_by_kind(image: Image) -> tuple[int, int]:
    """Return how many bytes the kernel counts as used, of data and of metadata."""
    used = [0, 0]
    for key, payload in image.tree(TreeId.EXTENT_TREE).items():
        if key.type == ItemType.BLOCK_GROUP_ITEM:
            group: Any = parse(key.type, payload).records[0]
            used[not group.flags & BlockGroup.DATA] += group.used
    assert sum(used) == image.superblock.bytes_used
    return used[0], used[1]


@pytest.mark.kernel
@pytest.mark.progs
@pytest.mark.parametrize(
    "doomed",
    [("snaps/rw",), ("snaps/of-ro",), ("snaps/rw", "snaps/of-rw"), ("snaps/ro", "snaps/of-ro", "snaps/rw"), ("lone",)],
    ids=" ".join,
)
def test_deleting_subvolumes_frees_what_was_foretold(
    doomed: tuple[str, ...], kernel_image: Callable[..., KernelImage], tmp_path: Path
) -> None:
    devices = kernel_image(**ODD).copy(str(tmp_path))
    with kernel.mount(devices) as top:
        kernel.create_subvolume(os.fsencode(top) + b"/lone")
        with open(f"{top}/lone/file", "wb") as file:
            file.write(bytes(range(256)) * 5000)
        ids = [kernel.subvolume_id(f"{top}/{name}") for name in doomed]
    with open_image(devices) as image:
        usage = Usage(image)
        told, (data, metadata), (files, others) = usage.freed_by(ids), used_by_kind(image), blocks_of(image)
        each = dict(zip(usage.ids, usage.freed_by_each(), strict=True))
        alone = [each[subvolume] for subvolume in ids]
        assert told == alone[0] if len(ids) == 1 else told.metadata >= sum(freed.metadata for freed in alone)
        assert usage.freed_by([999_999]) == Freed(0, 0)
    with kernel.mount(devices) as top:
        kernel.run("btrfs", "subvolume", "delete", "-C", *(f"{top}/{name}" for name in doomed))
        kernel.finish_deletions(top)
    with open_image(devices) as image:
        left, (data_left, metadata_left), (files_left, others_left) = (
            Usage(image),
            used_by_kind(image),
            blocks_of(image),
        )
        assert not set(ids) & set(left.ids)
        assert told.data == data - data_left
        assert told.metadata == (len(files) - len(files_left)) * 4096 > 0
        assert metadata - metadata_left == told.metadata + (len(others) - len(others_left)) * 4096


@pytest.mark.kernel
def test_bookends_hide_what_was_overwritten(kernel_image: Callable[..., KernelImage]) -> None:
    with open_image(kernel_image(**ODD).devices) as image:
        usage = Usage(image)
        rows, extents = usage.file_extents, usage.extents
        assert len(extents.logical) > 100
        for number in range(len(extents.logical)):
            whole = np.zeros(extents.ram_bytes[number] // 512, np.bool_)
            for row in np.flatnonzero(rows.extent == number):
                whole[rows.skipped[row] // 512 : (rows.skipped[row] + rows.length[row]) // 512] = True
            plain = extents.length[number] == extents.ram_bytes[number]
            assert usage.unreachable[number] == (np.sum(~whole) * 512 if plain else 0)
        tally = Tally(usage)
        for section in walk(usage, image.open(b"/nodatasum/file-0")):
            tally.add(section.fresh)
        # Of its first extent blocks 9 to 12, 20 and 21 are hidden, and block 10 of what was put there first.
        assert tally.space().unreachable == 4096 * 7
        assert usage.unreachable.sum() > 4096 * 7


def test_directories_that_hold_themselves_are_entered_once(demo_image: str, tmp_path: Path) -> None:
    broken = copy_sparse([demo_image], str(tmp_path))[0]

    def turn_back(items: Any) -> None:
        """Let every directory entry of a directory below /files lead to /files itself."""
        for key, payload in items.items():
            if key.type == ItemType.DIR_INDEX and key.objectid == files and payload[29] == FileType.DIR:
                items[key] = files.to_bytes(8, "little") + payload[8:]

    with open_image(demo_image) as image:
        files = image.open(b"/files").ino
        sound = next(walk(Usage(image), image.open(b"/files")))
    edit_leaf(broken, TreeId.FS_TREE, turn_back, Key(files, ItemType.DIR_INDEX, 0))
    with open_image(broken) as image:
        turned = next(walk(Usage(image), image.open(b"/files")))
        assert 0 < turned.directory.sum() <= sound.directory.sum()
        assert len(turned.inode) < len(sound.inode)
        assert files in turned.inode


FILES = 100  # what is above is a file
CHILDREN = some.lists(some.sampled_from([2, 3, 4, 5, 6, FILES, FILES]), max_size=3)


@example([[3, 4], [], [FILES]], [])  # an empty directory before another one
@given(some.lists(CHILDREN, min_size=3, max_size=5), some.lists(some.integers(2, 6), max_size=3))
def test_the_order_is_that_of_a_walk_one_by_one(directories: list[list[int]], at_first: list[int]) -> None:
    """Directories hold files, empty directories, each other and themselves; each is entered where it is met first."""
    rows = [(2, child) for child in at_first]
    rows += [(directory, child) for directory, children in enumerate(directories, 2) for child in children]
    parent, child = np.array(rows, np.uint64).reshape(-1, 2).T
    order = _in_order(parent, child, np.where(child < FILES, DIRECTORY, FILE).astype(np.uint8), 2)
    holds: dict[int, list[int]] = {}  # of entries, by number
    level, entered = [-1], set[int]()
    while level:
        for number in level:
            directory = 2 if number < 0 else rows[number][1]
            fresh = directory < FILES and directory not in entered
            holds[number] = [at for at, row in enumerate(rows) if row[0] == directory] if fresh else []
            entered.add(directory)
        level = [each for number in level for each in holds[number]]

    def visit(number: int) -> list[tuple[int, int]]:
        found: list[tuple[int, int]] = []
        for each in holds[number]:
            below = visit(each)
            found += [*below, (each, len(below))]
        return found

    walked = visit(-1)
    assert order.entry.tolist() == [number for number, _ in walked]
    assert order.begin.tolist() == [place - below for place, (_, below) in enumerate(walked)]


RANGES = some.lists(some.tuples(some.integers(0, 300), some.integers(0, 60)))


@given(RANGES)
def test_a_union_counts_every_byte_once(ranges: list[tuple[int, int]]) -> None:
    start, length = np.array(ranges, np.int64).reshape(-1, 2).T
    assert union(start, length) == len({byte for first, size in ranges for byte in range(first, first + size)})


@given(some.lists(some.tuples(some.integers(0, 3), some.integers(0, 90), some.integers(0, 60))))
def test_what_is_covered_of_each_extent_is_counted_once(ranges: list[tuple[int, int, int]]) -> None:
    extent, skipped, length = np.array(ranges, np.int64).reshape(-1, 3).T
    span = [0, 40, 80, 100]
    bytes_of = [{at for e, s, n in ranges if e == number for at in range(s, s + n)} for number in range(4)]
    expected = [len({at for at in found if at < size}) for found, size in zip(bytes_of, span, strict=True)]
    assert covered(extent, skipped, length, np.array(span)).tolist() == expected
