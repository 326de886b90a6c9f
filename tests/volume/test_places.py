"""Arrays of addresses against one address at a time."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from btrimg.errors import CorruptError
from btrimg.ondisk.chunks import Chunk, Stripe
from btrimg.ondisk.constants import STRIPE_LEN, BlockGroup
from btrimg.volume.chunkmap import ChunkMap
from btrimg.volume.places import PlaceMap
from btrimg.volume.profiles import PROFILES

WIDTHS = {0: (1,), BlockGroup.DUP: (2,), BlockGroup.RAID1: (2,), BlockGroup.RAID1C3: (3,), BlockGroup.RAID1C4: (4,)}


def chunk_of(profile: int, width: int, rows: int, number: int) -> tuple[int, Chunk]:
    stripes = tuple(Stripe(n + 1, (number * 100 + n * 7 + 1) << 20, bytes(16)) for n in range(width))
    columns = (width - PROFILES[profile].parity) // PROFILES[profile].copies
    length = rows * columns * STRIPE_LEN
    return (number + 1) << 30, Chunk(length, 2, STRIPE_LEN, BlockGroup.DATA | profile, 0, 0, 0, width, 0, stripes)


@st.composite
def chunk_maps(draw: st.DrawFn) -> ChunkMap:
    chunks = []
    for number in range(draw(st.integers(0, 6))):
        profile = draw(st.sampled_from(sorted(PROFILES)))
        width = draw(st.sampled_from(WIDTHS.get(profile, (PROFILES[profile].min_stripes, 4, 6, 8))))
        chunks.append(chunk_of(profile, width, draw(st.integers(1, 9)), number))
    return ChunkMap(chunks, pytest.fail)


@given(chunk_maps(), st.data())
def test_places_are_those_of_the_chunk_map(chunks: ChunkMap, data: st.DataObject) -> None:
    edges = [edge + nudge for chunk in chunks for edge in (chunk.logical, chunk.end) for nudge in (-1, 0, 1)]
    inside = [st.integers(chunk.logical, chunk.end - 1) for chunk in chunks]
    anywhere = st.one_of(st.integers(0, (1 << 64) - 1), *inside)
    addresses = [0, 1 << 63, (1 << 64) - 1, *edges, *data.draw(st.lists(anywhere))]
    places = PlaceMap(chunks).locate(np.array(addresses, np.uint64))
    for number, address in enumerate(addresses):
        count = int(places.copies[number])
        found = list(zip(places.devid[:count, number].tolist(), places.physical[:count, number].tolist(), strict=True))
        try:
            expected = chunks.locate(address)
        except CorruptError:
            assert (found, places.contiguous[number]) == ([], 0)
            continue
        assert found == list(map(tuple, expected.copies))
        assert places.contiguous[number] == expected.length
        assert not places.devid[count:, number].any()


def test_the_most_copies_are_those_of_the_widest_profile() -> None:
    chunks = [chunk_of(0, 1, 2, 0), chunk_of(BlockGroup.RAID1C3, 3, 2, 1), chunk_of(BlockGroup.RAID10, 6, 2, 2)]
    assert PlaceMap(ChunkMap(chunks, pytest.fail)).most_copies == 3
    assert PlaceMap(ChunkMap([], pytest.fail)).most_copies == 0
