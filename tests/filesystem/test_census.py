"""The columns of a whole image against the point path, file by file, and against FIEMAP."""

from __future__ import annotations

import os
import random
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from support import kernel
from support.images import MIB, copy_sparse, mkfs, new_devices
from support.kernel import FIEMAP_ENCODED, FIEMAP_INLINE, FIEMAP_LAST, FIEMAP_SHARED, FIEMAP_UNWRITTEN, FiemapRow

from btrimg.filesystem import columns as extent_columns
from btrimg.filesystem import namei
from btrimg.filesystem.census import cut_at_stripes
from btrimg.filesystem.columns import KINDS
from btrimg.filesystem.extents import reference_count
from btrimg.filesystem.image import Image, open_image
from btrimg.filesystem.leafrows import file_extents
from btrimg.filesystem.translate import copies_at
from btrimg.filesystem.walk import walk
from btrimg.ondisk.chunks import Chunk, Stripe
from btrimg.ondisk.constants import STRIPE_LEN, BlockGroup, TreeId
from btrimg.trees.block import Block
from btrimg.trees.leafbatch import leaf_of
from btrimg.trees.salvage import walk as walk_blocks
from btrimg.volume.chunkmap import ChunkMap
from btrimg.volume.places import PlaceMap

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.images import KernelImage
    from support.powerloss import CutImage

    from btrimg.filesystem.columns import ExtentColumns
    from btrimg.filesystem.extents import FileExtentRow
    from btrimg.filesystem.inode import Inode

    Files = dict[tuple[int, int], list[tuple[Any, ...]]]  # rows by subvolume and inode

VARIANTS = (
    {"profile": "raid10", "nodesize": 4096, "csum": "sha256", "compression": "zstd"},
    {"profile": "raid5", "nodesize": 16384, "csum": "xxhash", "compression": "lzo"},
    {"profile": "raid1c3", "nodesize": 4096, "features": ("^no-holes",)},
    {"profile": "single", "metadata_profile": "dup", "nodesize": 65536, "csum": "blake2", "compression": "zlib"},
)
VIEWS = [{"holes": holes, "pieces": pieces} for holes in (False, True) for pieces in (False, True)]


@pytest.fixture(params=VARIANTS, ids=lambda options: options["profile"])
def written(request: pytest.FixtureRequest, kernel_image: Callable[..., KernelImage]) -> KernelImage:
    return kernel_image(**request.param)


def refuse(what: object) -> None:
    raise AssertionError(str(what))


def by_file(columns: ExtentColumns) -> Files:
    """Return the rows of every file as tuples, the place of each copy included."""
    files: Files = {}
    names = ("offset", "length", "compression", "logical")
    extent = ("extent_logical", "extent_length", "extent_offset", "ram_bytes", "generation")
    for row in range(columns.rows):
        copies = int(columns.copies[row])
        values = tuple(int(getattr(columns, name)[row]) for name in (*names, *extent, "refs"))
        places = zip(columns.devid[:copies, row].tolist(), columns.physical[:copies, row].tolist(), strict=True)
        identity = (int(columns.subvolume[row]), int(columns.inode[row]))
        files.setdefault(identity, []).append((KINDS[columns.kind[row]], *values, tuple(places)))
    return files


def by_path(columns: ExtentColumns) -> dict[bytes | None, list[tuple[Any, ...]]]:
    """Return the rows of every file as tuples, by the path that the columns give it."""
    identities = zip(columns.subvolume.tolist(), columns.inode.tolist(), strict=True)
    paths = {identity: columns.path_of(row) for row, identity in enumerate(identities)}
    return {paths[identity]: rows for identity, rows in by_file(columns).items()}


def point_row(image: Image, row: FileExtentRow) -> tuple[Any, ...]:
    """Return a row of the point path in the form of ``by_file``."""
    extent, logical = row.extent, row.logical
    if extent is None or logical is None:
        return (row.kind, row.offset, row.length, row.compression, *(0,) * 7, ())
    places = tuple((copy.devid, copy.physical) for copy in copies_at(image, logical)[0])
    numbers = (extent.logical, extent.length, extent.offset, extent.ram_bytes, extent.generation)
    return (
        row.kind,
        row.offset,
        row.length,
        row.compression,
        logical,
        *numbers,
        reference_count(image, extent) or 0,
        places,
    )


def regular_files(image: Image) -> dict[tuple[int, int], list[Inode]]:
    """Return every regular file, once for each of its names."""
    files: dict[tuple[int, int], list[Inode]] = {}
    for inode in walk(image.open(b"/")):
        if inode.is_regular:
            files.setdefault((inode.subvolume.id, inode.ino), []).append(inode)
    return files


@pytest.mark.kernel
@pytest.mark.progs
def test_columns_equal_the_point_path(written: KernelImage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("btrimg.trees.batches.BATCH_BYTES", 1 << 18)  # so that leaves come in several batches
    with open_image(written.devices, warn=refuse) as image:
        assert len(regular_files(image)) > 1000
        seen = {kind for view in VIEWS for kind in check_against_point_path(image, **view)}
        assert seen == set(KINDS)


def check_against_point_path(image: Image, **view: bool) -> set[str]:
    """Compare the rows of all files; return the kinds there were."""
    columns = image.extents(**view)
    expected = {
        key: [point_row(image, row) for row in inodes[0].extents(**view)]
        for key, inodes in regular_files(image).items()
    }
    assert by_file(columns) == {key: rows for key, rows in expected.items() if rows}
    return {KINDS[kind] for kind in set(columns.kind.tolist())}


@pytest.mark.kernel
@pytest.mark.progs
@pytest.mark.parametrize("replay", [False, True])
def test_a_replayed_log_counts(replay: bool, cut_image: Callable[..., CutImage]) -> None:
    found = cut_image(nodesize=4096)
    with open_image(found.devices, replay_log=replay, warn=lambda _: None) as image:
        view = found.replayed if replay else found.committed
        for holes in (False, True):
            columns = image.extents(holes=holes)
            named = by_path(columns)
            assert set(named) - {None} <= set(view.entries)
            for path, entry in view.entries.items():
                if stat.S_ISREG(entry.stat.mode) and entry.extents and entry.stat.nlink == 1:
                    inode = image.open(path)
                    assert named[path] == [point_row(image, row) for row in inode.extents(holes=holes)], path
            order = list(zip(columns.subvolume.tolist(), columns.inode.tolist(), columns.offset.tolist(), strict=True))
            assert order == sorted(order)


@pytest.mark.kernel
@pytest.mark.progs
def test_rows_are_ordered_and_have_the_first_path_of_their_file(written: KernelImage) -> None:
    with open_image(written.devices, warn=refuse) as image:
        columns = image.extents(holes=True)
        files = regular_files(image)
        order = list(zip(columns.subvolume.tolist(), columns.inode.tolist(), columns.offset.tolist(), strict=True))
        assert order == sorted(set(order))
        paths = {(subvolume, ino): columns.path_of(row) for row, (subvolume, ino, _) in enumerate(order)}
        for (subvolume, ino), path in paths.items():
            top = namei.path_of_subvolume(image, subvolume)
            below = namei.path_in_subvolume(image, image.subvolume(subvolume), ino)
            assert top is not None
            assert below is not None
            assert path == top + below
            assert path in [inode.path for inode in files[subvolume, ino]]
    assert sum(len(files[identity]) > 1 for identity in paths) >= 2
    assert columns.paths.to_list() == [columns.paths.decode(number) for number in range(columns.paths.rows)]


@pytest.mark.kernel
@pytest.mark.progs
def test_columns_equal_fiemap(written: KernelImage) -> None:
    with open_image(written.devices, warn=refuse) as image:
        columns, sectorsize = image.extents(), image.volume.sectorsize
    ours: dict[bytes | None, list[FiemapRow]] = {}
    for row in np.flatnonzero(columns.kind != KINDS.index("hole")).tolist():
        rows = ours.setdefault(columns.path_of(row), [])
        found = as_fiemap(columns, row, sectorsize)
        last = rows[-1] if rows else None
        if last and (last.offset + last.length, last.logical + last.length, last.flags) == (*found[:2], found.flags):
            found = rows.pop()._replace(length=last.length + found.length)
        rows.append(found)
    first_paths = set(ours)
    for path, entry in written.truth.entries.items():
        if path in first_paths:
            theirs = [row._replace(flags=row.flags & ~(FIEMAP_SHARED | FIEMAP_LAST)) for row in entry.extents]
            assert ours.pop(path) == theirs, path
        else:
            assert not entry.extents or entry.stat.nlink > 1, path
    assert not ours


def as_fiemap(columns: ExtentColumns, row: int, sectorsize: int) -> FiemapRow:
    """Return what FIEMAP says of a row: inline data fill a sector and lie nowhere, compressed ones at their start."""
    kind, offset, length = KINDS[columns.kind[row]], int(columns.offset[row]), int(columns.length[row])
    if kind == "inline":
        encoded = FIEMAP_ENCODED if columns.compression[row] else 0
        return FiemapRow(offset, 0, -(-length // sectorsize) * sectorsize, 0x100 | FIEMAP_INLINE | encoded)
    flags = {"compressed": FIEMAP_ENCODED, "prealloc": FIEMAP_UNWRITTEN, "regular": 0}[kind]
    return FiemapRow(offset, int(columns.logical[row]), length, flags)


@pytest.mark.kernel
@pytest.mark.progs
def test_a_deleted_subvolume_has_its_rows_without_paths_until_it_is_freed(tmp_path: Path) -> None:
    live = new_devices(str(tmp_path), 2, 256 * MIB)
    mkfs(live, "raid1")
    noise = random.Random("rows").randbytes(100_000)
    with kernel.mount(live) as top:
        for name in (b"kept", b"doomed"):
            kernel.create_subvolume(os.fsencode(top) + b"/" + name)
            for number in range(40):
                Path(top, os.fsdecode(name), str(number)).write_bytes(noise[: 900 * (number + 1)])
        doomed = kernel.subvolume_id(f"{top}/doomed")
        kernel.sync(top)
        kernel.delete_subvolume(os.fsencode(top) + b"/doomed")
        kernel.sync(top)  # commits, and does not wake who frees
        deleted = copy_sparse(live, str(tmp_path / "deleted"))
        kernel.finish_deletions(top)
    with open_image(deleted, warn=refuse) as image:
        columns = image.extents()
        assert image.subvolume(doomed).root.refs == 0
        assert np.unique(columns.subvolume[columns.path < 0]).tolist() == [doomed]
        rows = by_path(columns.take(columns.subvolume != doomed))
        assert set(rows) == {b"/kept/%d" % number for number in range(40)}
        assert [row[:3] for row in by_file(columns)[doomed, 257 + 39]] == [("regular", 0, 36864)]
    with open_image(live, warn=refuse) as image:
        assert by_path(image.extents()) == rows


@pytest.mark.kernel
@pytest.mark.progs
def test_a_lost_leaf_takes_its_rows_with_it_and_no_others(
    kernel_image: Callable[..., KernelImage], tmp_path_factory: pytest.TempPathFactory
) -> None:
    made = kernel_image(profile="single", metadata_profile="dup", nodesize=4096)
    devices = made.copy(str(tmp_path_factory.mktemp("damaged")))
    with open_image(devices, warn=refuse) as image:
        whole = by_file(image.extents())
        leaves = [
            (pointer, block)
            for pointer, block in walk_blocks(image.blocks, image.tree(TreeId.FS_TREE).root)
            if isinstance(block, Block) and block.header.level == 0
        ]
        pointer, block = leaves[len(leaves) // 2]
        lost = {key[0] for key in block.slots}
        with open(devices[0], "r+b") as device:
            for _, physical in image.volume.chunk_map.locate(pointer.logical).copies:
                device.seek(physical)
                device.write(bytes(4096))
    heard: list[str] = []
    with open_image(devices, warn=heard.append) as image:
        left = by_file(image.extents())
    assert len(heard) == 1
    assert f"tree block {pointer.logical}" in heard[0]
    assert len(left) < len(whole)
    for identity, rows in whole.items():
        if identity[0] != TreeId.FS_TREE or identity[1] not in lost:
            assert left[identity] == rows


def test_forged_rows_are_not_cut_to_pieces() -> None:
    """A forged extent, or a forged chunk, must not ask for memory: 2**61 bytes would be 2**45 pieces."""
    stripes = (Stripe(1, 1 << 20, bytes(16)), Stripe(2, 1 << 20, bytes(16)))
    raid0 = BlockGroup.DATA | BlockGroup.RAID0
    chunk = Chunk(1 << 50, 2, STRIPE_LEN, raid0, 0, 0, 0, 2, 0, stripes)
    places = PlaceMap(ChunkMap([(0, chunk)], refuse))
    lengths = np.array([1 << 61, 1 << 49, 3 * STRIPE_LEN, STRIPE_LEN, 1], np.int64)
    logical = np.array([4096, 4096, 4096, 4096, STRIPE_LEN - 1], np.int64)
    none = extent_columns.holes(file_extents(leaf_of([], 0), refuse)[1], lengths.view(np.uint64), logical, lengths)
    rows = none._replace(kind=np.zeros(5, np.uint8), logical=logical, extent_logical=logical)
    counts, pieces = cut_at_stripes(rows, places)
    assert counts.tolist() == [1, 1, 4, 2, 1]
    head = STRIPE_LEN - 4096
    assert pieces.length.tolist() == [1 << 61, 1 << 49, head, STRIPE_LEN, STRIPE_LEN, 4096, head, 4096, 1]
    assert (pieces.logical - pieces.offset).tolist() == [0] * 9
