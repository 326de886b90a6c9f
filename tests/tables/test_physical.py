"""``physical`` against ``locate``, device by device and byte by byte."""

from __future__ import annotations

import random
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from btrimg.filesystem.image import Image, open_image
from btrimg.filesystem.locate import Locator, Piece
from btrimg.ondisk.constants import TreeId
from btrimg.tables.build import build
from btrimg.tables.devicespace import disjoint
from btrimg.volume import devicepieces
from btrimg.volume.chunkmap import Location

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from support.images import KernelImage

    Row = tuple[Any, ...]

IMAGES: tuple[dict[str, Any], ...] = (
    {"profile": "raid10", "nodesize": 4096, "csum": "sha256", "compression": "zstd"},
    {"profile": "raid5", "nodesize": 16384, "csum": "xxhash", "compression": "lzo"},
    {"profile": "raid6"},
    {"profile": "single", "metadata_profile": "dup", "nodesize": 65536, "csum": "blake2", "compression": "zlib"},
)


def rows_of(image: Image) -> list[Row]:
    table = build(image, ["physical"])["physical"]
    return list(zip(*(column.tolist() for column in table.values()), strict=True))


def what(piece: Piece) -> Row:
    """Return what tells the row that a piece belongs to, beside its place."""
    number = piece.copies[0].role if piece.kind == "parity" else ""
    return piece.kind, piece.chunk, piece.extent.logical if piece.extent else 0, number


def located(image: Image, devid: int, size: int) -> Iterator[Row]:
    """Yield the rows of a device by ``locate``, whose pieces also end where users change: those are put together."""
    chunks = image.volume.chunk_map
    for (kind, chunk, extent, role), pieces in groupby(Locator(image).on_device(devid, 0, size), what):
        held: list[Piece] = []
        for piece in [*pieces, None]:
            last = held[-1] if held else None
            if piece and (not last or piece.logical == (last.logical or 0) + last.length):
                held.append(piece)
                continue
            first = held[0]
            physical, logical = first.physical or 0, first.logical or 0
            copy = "PQ".index(role) if role else 0
            if first.chunk and not role:
                copy = chunks.locate(logical).copies.index(Location(devid, physical))
            length = sum(each.length for each in held)
            start = chunk.logical if chunk else 0
            yield devid, physical, length, kind, logical, start, copy, extent
            held = [piece] if piece else []


@pytest.mark.kernel
@pytest.mark.progs
@pytest.mark.parametrize("options", IMAGES, ids=lambda options: options["profile"])
def test_rows_are_what_locate_says_of_every_byte(
    options: dict[str, Any], kernel_image: Callable[..., KernelImage], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devicepieces, "BATCH_ROWS", 500)
    with open_image(kernel_image(**options).devices, warn=pytest.fail) as image:
        devices = sorted(image.volume.devices.items())
        expected = [row for devid, device in devices for row in located(image, devid, device.size)]
        assert rows_of(image) == expected
    assert len(expected) > 200
    assert {row[3] for row in expected} >= {"superblock", "tree block", "data", "free", "reserved", "unallocated"}


@pytest.mark.kernel
@pytest.mark.progs
@pytest.mark.parametrize("options", IMAGES, ids=lambda options: options["profile"])
def test_rows_cover_each_device_and_every_copy(
    options: dict[str, Any], kernel_image: Callable[..., KernelImage]
) -> None:
    with open_image(kernel_image(**options).devices, warn=pytest.fail) as image:
        found = build(image, ["physical", "extents", "chunks"])
        table, sizes = found["physical"], {devid: device.size for devid, device in image.volume.devices.items()}
        for devid, size in sizes.items():
            here = table["devid"] == devid
            start, length = table["physical"][here], table["length"][here]
            assert start[0] == 0
            assert (start[:-1] + length[:-1] == start[1:]).all()
            assert start[-1] + length[-1] == size
        for logical, length in zip(found["extents"]["logical"], found["extents"]["length"], strict=True):
            copies = image.volume.chunk_map.find(int(logical)).profile.copies
            assert table["length"][table["extent"] == logical].sum() == length * copies
        locator, chosen = Locator(image), random.Random(options["profile"])
        for _ in range(300):
            devid = chosen.choice(sorted(sizes))
            at = chosen.randrange(sizes[devid])
            row = np.flatnonzero((table["devid"] == devid) & (table["physical"] <= at))[-1]
            piece = next(locator.on_device(devid, at, 1))
            assert piece.kind == table["holds"][row]
            assert (piece.extent.logical if piece.extent else 0) == table["extent"][row]


def test_without_an_extent_tree_all_trees_are_scanned(forged: str) -> None:
    with open_image(forged) as image:
        expected = rows_of(image)
        places = image.volume.chunk_map.locate(image.tree(TreeId.EXTENT_TREE).root.logical).copies
        with open(forged, "r+b") as file:
            for place in places:
                file.seek(place.physical + 200)
                file.write(b"broken")
    said: list[str] = []
    with open_image(forged, warn=said.append) as image:
        found = rows_of(image)
    assert any("all trees are scanned" in text for text in said)
    lost = {row[7] for row in expected if row[3] == "tree block"} - {row[7] for row in found}
    assert len(lost) == 1  # the extent tree's own leaf
    assert [row for row in found if row[7]] == [row for row in expected if row[7] and row[7] not in lost]


U64 = st.integers(0, (1 << 64) - 1) | st.integers(0, 40)


@given(st.lists(st.tuples(U64, U64, st.integers(1, 2))))
def test_ranges_that_overlap_are_cut(ranges: list[tuple[int, int, int]]) -> None:
    columns = [np.array([row[n] for row in ranges], np.uint64) for n in range(3)]
    found = disjoint(columns[0], columns[1], columns[2].astype(np.int64))
    assert (found.start < found.end).all()
    assert (found.end[:-1] <= found.start[1:]).all()
    assert found.edges.tolist()[:-1] == sorted({*found.start.tolist(), *found.end.tolist()})
    for byte in range(81):
        covering = sorted((start, n) for n, (start, length, _) in enumerate(ranges) if start <= byte < start + length)
        rows = np.flatnonzero((found.start <= byte) & (byte < found.end))
        assert len(rows) == bool(covering)
