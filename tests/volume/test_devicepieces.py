"""Columns of a device's pieces against one piece at a time."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.synthetic import MIB, chunk

from btrimg.ondisk.chunks import Chunk, Stripe
from btrimg.ondisk.constants import STRIPE_LEN, BlockGroup
from btrimg.volume import devicepieces
from btrimg.volume.chunkmap import ChunkMap
from btrimg.volume.devicemap import DeviceMap, DevicePiece
from btrimg.volume.devicepieces import KINDS, NOWHERE, pieces_at, pieces_of

from .test_devicemap import DEVICE, LOGICAL, chunks

Row = tuple[int, int, str, int, int, int]


def rows_of(devices: DeviceMap, devid: int, size: int) -> list[Row]:
    rows: list[Row] = []
    for batch in pieces_of(devices, devid, size):
        assert 0 < len(batch.kind) <= devicepieces.BATCH_ROWS
        columns = [column.tolist() for column in batch]
        rows += [(*row[:2], KINDS[row[2]], *row[3:]) for row in zip(*columns, strict=True)]
    return rows


def plain(piece: DevicePiece) -> Row:
    chunk = NOWHERE if piece.chunk is None else piece.chunk.logical
    logical = NOWHERE if piece.logical is None else piece.logical
    return piece.physical, piece.length, piece.kind, chunk, logical, piece.number


@given(made=chunks(), more=chunks(), rows=st.integers(2, 50), size=st.integers(0, DEVICE))
def test_pieces_are_those_made_one_by_one(made: Chunk, more: Chunk, rows: int, size: int) -> None:
    moved = more.replace(stripes=tuple(each.replace(offset=each.offset + 30 * MIB) for each in more.stripes))
    devices = DeviceMap(ChunkMap([(LOGICAL, made), (2 * LOGICAL, moved)], pytest.fail), pytest.fail)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(devicepieces, "BATCH_ROWS", rows)
        for devid in (*(stripe.devid for stripe in (*made.stripes, *more.stripes)), 99):
            assert rows_of(devices, devid, size) == [*map(plain, devices.pieces(devid, 0, size))]


@given(made=chunks(), more=chunks(), at=st.lists(st.integers(0, DEVICE)))
def test_single_bytes_are_those_told_one_by_one(made: Chunk, more: Chunk, at: list[int]) -> None:
    moved = more.replace(stripes=tuple(each.replace(offset=each.offset + 30 * MIB) for each in more.stripes))
    devices = DeviceMap(ChunkMap([(LOGICAL, made), (2 * LOGICAL, moved)], pytest.fail), pytest.fail)
    for devid in (*(stripe.devid for stripe in (*made.stripes, *more.stripes)), 99):
        found = pieces_at(devices, devid, np.array(at, np.int64))
        rows = [(*row[:2], KINDS[row[2]], *row[3:]) for row in zip(*(each.tolist() for each in found), strict=True)]
        assert rows == [plain(next(devices.pieces(devid, each, each + 1))) for each in at]


def test_a_superblock_cuts_an_element() -> None:
    devices = DeviceMap(ChunkMap([(0, chunk(BlockGroup.RAID5, 3, 200 * MIB))], pytest.fail), pytest.fail)
    rows = rows_of(devices, 2, 90 * MIB)
    assert rows == [*map(plain, devices.pieces(2, 0, 90 * MIB))]
    kinds = [row[2] for row in rows if 63 * MIB < row[0] < 65 * MIB]
    assert kinds.count("superblock") == 1
    assert {"mapped", "parity"} <= set(kinds)


def test_a_chunk_that_ends_at_the_last_address_does_not_wrap() -> None:
    logical, width = (1 << 63) - 5 * STRIPE_LEN, 64
    stripes = tuple(Stripe(n + 1, MIB, bytes(16)) for n in range(width))
    last = Chunk(5 * STRIPE_LEN, 2, STRIPE_LEN, BlockGroup.DATA | BlockGroup.RAID0, 0, 0, 0, width, 0, stripes)
    devices = DeviceMap(ChunkMap([(logical, last)], pytest.fail), pytest.fail)
    for devid in (1, 5, 6, 64):
        assert rows_of(devices, devid, 2 * MIB) == [*map(plain, devices.pieces(devid, 0, 2 * MIB))]


def test_a_large_device_comes_in_batches() -> None:
    made = chunk(BlockGroup.RAID0, 2, 1 << 40)
    devices = DeviceMap(ChunkMap([(LOGICAL, made)], pytest.fail), pytest.fail)
    taken = pieces_of(devices, 1, 1 << 39)
    assert sum(int(np.sum(next(taken).length)) for _ in range(3)) > 4 << 30
