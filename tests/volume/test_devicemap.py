"""From a byte of a device back to what it is for: the inverse of the chunk map."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.synthetic import MIB, chunk

from btrimg.ondisk.constants import STRIPE_LEN, SUPERBLOCK_OFFSETS, SUPERBLOCK_SIZE, BlockGroup
from btrimg.volume.chunkmap import ChunkMap, MappedChunk
from btrimg.volume.devicemap import DeviceMap, DevicePiece
from btrimg.volume.profiles import PROFILES, data_columns

if TYPE_CHECKING:
    from btrimg.ondisk.chunks import Chunk

SECTOR = 4096
LOGICAL = 100 * MIB
DEVICE = 66 * MIB  # two copies of the superblock


@st.composite
def chunks(draw: st.DrawFn) -> Chunk:
    """Return a chunk of any profile and width, that may end within a row and within an element."""
    bit, profile = draw(st.sampled_from(list(PROFILES.items())))
    most = min(profile.max_stripes, 11)
    columns = draw(
        st.integers((profile.min_stripes - profile.parity) // profile.copies, (most - profile.parity) // profile.copies)
    )
    width = columns * profile.copies + profile.parity
    return chunk(bit, width, draw(st.integers(1, 40 * STRIPE_LEN // SECTOR)) * SECTOR, logical=LOGICAL)


def mapped(made: Chunk) -> MappedChunk:
    return ChunkMap([(LOGICAL, made)], pytest.fail).find(LOGICAL)


def all_pieces(made: Chunk) -> list[DevicePiece]:
    devices = DeviceMap([mapped(made)], pytest.fail)
    return [piece for stripe in made.stripes for piece in devices.pieces(stripe.devid, 0, DEVICE)]


@given(chunks(), st.integers(0, STRIPE_LEN - 1))
def test_what_a_place_holds_is_what_was_located_there(made: Chunk, within: int) -> None:
    here, devices = mapped(made), DeviceMap([mapped(made)], pytest.fail)
    columns = data_columns(len(made.stripes), here.profile)
    for offset in range(within, made.length, STRIPE_LEN):
        mapping = here.locate(LOGICAL + offset)
        for number, place in enumerate(mapping.copies):
            piece = next(devices.pieces(place.devid, place.physical, DEVICE))
            assert piece == DevicePiece(*place, mapping.length, "mapped", here, LOGICAL + offset, number)
        row_start = LOGICAL + offset - offset % (columns * STRIPE_LEN)
        for number, (_, place) in enumerate(mapping.parity):
            piece = next(devices.pieces(place.devid, place.physical, DEVICE))
            assert piece == DevicePiece(*place, STRIPE_LEN - within, "parity", here, row_start, number)


@given(chunks())
def test_every_byte_of_every_device_and_of_the_chunk_is_told_once(made: Chunk) -> None:
    pieces = all_pieces(made)
    assert sum(piece.length for piece in pieces) == DEVICE * len(made.stripes)
    here = mapped(made)
    for number in range(here.profile.copies):
        held = sorted((p.logical, p.length) for p in pieces if p.kind == "mapped" and p.number == number and p.logical)
        at = LOGICAL
        for logical, length in held:
            assert logical == at
            at += length
        assert at == here.end
    for piece in pieces:
        if piece.kind == "mapped" and piece.logical is not None:
            last = here.locate(piece.logical + piece.length - 1).copies[piece.number]
            assert last == (piece.devid, piece.physical + piece.length - 1)


@given(chunks(), st.integers(0, DEVICE - 1), st.integers(1, 3 * MIB))
def test_a_range_is_a_part_of_the_whole(made: Chunk, start: int, length: int) -> None:
    devices, end = DeviceMap([mapped(made)], pytest.fail), min(start + length, DEVICE)
    part, whole = list(devices.pieces(1, start, end)), list(devices.pieces(1, 0, DEVICE))
    inner = [piece for piece in whole if piece.physical < end and start < piece.physical + piece.length]
    assert [piece.kind for piece in part] == [piece.kind for piece in inner]
    assert (part[0].physical, part[-1].physical + part[-1].length) == (start, end)
    assert part[1:-1] == inner[1:-1]


def test_what_no_chunk_takes() -> None:
    devices = DeviceMap([mapped(chunk(BlockGroup.DUP, 2, MIB, devids=(1, 1)))], pytest.fail)
    first, second = SUPERBLOCK_OFFSETS[:2]
    assert [(piece.physical, piece.kind) for piece in devices.pieces(1, 0, DEVICE)] == [
        (0, "reserved"),
        (first, "superblock"),
        (first + SUPERBLOCK_SIZE, "reserved"),
        (MIB, "mapped"),
        (2 * MIB, "mapped"),
        (3 * MIB, "unallocated"),
        (second, "superblock"),
        (second + SUPERBLOCK_SIZE, "unallocated"),
    ]
    assert [piece.kind for piece in devices.pieces(7, MIB, DEVICE)] == ["unallocated", "superblock", "unallocated"]


def test_a_superblock_within_a_chunk_is_a_superblock() -> None:
    devices = DeviceMap([mapped(chunk(0, 1, 100 * MIB))], pytest.fail)
    at = SUPERBLOCK_OFFSETS[1]
    before, middle, after = devices.pieces(1, at - 10, at + SUPERBLOCK_SIZE + 10)
    assert (before.kind, before.length, before.logical) == ("mapped", 10, LOGICAL + at - 10 - MIB)
    assert (middle.kind, middle.length, middle.logical) == ("superblock", SUPERBLOCK_SIZE, None)
    assert (after.kind, after.logical) == ("mapped", LOGICAL + at + SUPERBLOCK_SIZE - MIB)


def test_of_stripes_that_overlap_the_first_keeps_its_bytes() -> None:
    said: list[str] = []
    long, inner = chunk(0, 1, 8 * MIB), chunk(BlockGroup.RAID0, 2, 2 * MIB, devids=(9, 1))
    maps = ChunkMap([(LOGICAL, long), (2 * LOGICAL, inner)], pytest.fail)
    devices = DeviceMap(maps, said.append)
    assert [(p.kind, p.length, p.logical) for p in devices.pieces(1, MIB, 10 * MIB)] == [
        ("mapped", 8 * MIB, LOGICAL),
        ("unallocated", MIB, None),
    ]
    assert len(said) == 1
    assert f"chunk {2 * LOGICAL} at {2 * MIB} overlaps" in said[0]
