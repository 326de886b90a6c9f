"""The chunk map: edges, bad chunks, and which of two overlapping ones stays."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from support.synthetic import MIB, chunk

from btrimg.errors import CorruptError
from btrimg.ondisk.constants import STRIPE_LEN, BlockGroup
from btrimg.volume.chunkmap import ChunkMap, Location

if TYPE_CHECKING:
    from btrimg.ondisk.chunks import Chunk

SINGLE = chunk(0, 1, 8 * MIB)


def bad(chunk_: Chunk, sentence: str) -> None:
    """Check that the chunk is left out with *sentence*, and the one behind it stays."""
    said: list[str] = []
    chunks = ChunkMap([(4 * MIB, chunk_), (256 << 30, SINGLE)], said.append)
    assert [mapped.logical for mapped in chunks] == [256 << 30]
    assert len(said) == 1
    assert sentence in said[0]


def test_a_chunk_ends_before_its_end() -> None:
    chunks = ChunkMap([(16 * MIB, SINGLE), (32 * MIB, SINGLE)], pytest.fail)
    assert chunks.locate(16 * MIB).copies == (Location(1, MIB),)
    assert chunks.locate(24 * MIB - 1) == ((Location(1, 9 * MIB - 1),), (), 1)
    assert chunks.find(32 * MIB).logical == 32 * MIB
    for outside in (0, 16 * MIB - 1, 24 * MIB, 32 * MIB - 1, 40 * MIB, (1 << 64) - 1):
        with pytest.raises(CorruptError, match=f"{outside} lies in no chunk"):
            chunks.locate(outside)


def test_chunks_come_in_logical_order() -> None:
    chunks = ChunkMap([(at * MIB, SINGLE) for at in (64, 8, 32, 0)], pytest.fail)
    assert [mapped.logical // MIB for mapped in chunks] == [0, 8, 32, 64]
    assert len(chunks) == 4


def test_a_striped_mapping_ends_with_its_element() -> None:
    raid0 = ChunkMap([(0, chunk(BlockGroup.RAID0, 3, 3 * MIB))], pytest.fail)
    assert raid0.locate(4 * STRIPE_LEN + 100) == ((Location(2, 2 * MIB + STRIPE_LEN + 100),), (), STRIPE_LEN - 100)
    for profile, width in ((BlockGroup.RAID0, 1), (BlockGroup.RAID10, 2), (BlockGroup.DUP, 2), (BlockGroup.RAID1C4, 4)):
        narrow = ChunkMap([(0, chunk(profile, width, 3 * MIB))], pytest.fail)
        assert narrow.locate(100).length == 3 * MIB - 100, "one column lies in one piece"


def test_the_narrowest_raid5_turns_though_it_has_one_column() -> None:
    chunks = ChunkMap([(0, chunk(BlockGroup.RAID5, 2, MIB))], pytest.fail)
    p_of_first_row, p_of_second_row = Location(2, 2 * MIB), Location(1, MIB + STRIPE_LEN)
    assert chunks.locate(0) == ((Location(1, MIB),), (("P", p_of_first_row),), STRIPE_LEN)
    assert chunks.locate(STRIPE_LEN).copies == (Location(2, 2 * MIB + STRIPE_LEN),)
    assert chunks.locate(STRIPE_LEN).parity == (("P", p_of_second_row),)


def test_parity_stands_behind_the_data_of_its_row() -> None:
    chunks = ChunkMap([(0, chunk(BlockGroup.RAID6, 5, 30 * STRIPE_LEN))], pytest.fail)
    mapping = chunks.locate(7 * STRIPE_LEN + 5)  # row 2, column 1
    within = 2 * STRIPE_LEN + 5
    assert mapping.copies == (Location(4, 4 * MIB + within),)
    assert mapping.parity == (("P", Location(1, MIB + within)), ("Q", Location(2, 2 * MIB + within)))
    row = chunks.find(7 * STRIPE_LEN).row(7 * STRIPE_LEN + 5)
    assert row.column == 1
    assert [place.devid for place in row.places] == [3, 4, 5, 1, 2]


def test_what_cannot_be_computed_is_left_out() -> None:
    bad(SINGLE.replace(stripe_len=4096), "a stripe length of 4096")
    bad(SINGLE.replace(length=0), "is of 0 bytes")
    bad(SINGLE.replace(length=1 << 63), f"is of {1 << 63} bytes")
    bad(SINGLE.replace(type=BlockGroup.DATA | BlockGroup.RAID0 | BlockGroup.RAID1), "more than one profile")
    bad(chunk(0, 1, MIB).replace(num_stripes=0, stripes=()), "single of 0 stripes")
    bad(chunk(BlockGroup.RAID10, 5, MIB), "raid10 of 5 stripes")
    bad(chunk(BlockGroup.RAID1, 3, MIB), "raid1 of 3 stripes")
    bad(chunk(BlockGroup.RAID6, 258, MIB), "raid6 of 258 stripes")
    high = SINGLE.stripes[0].replace(offset=(1 << 63) - MIB)
    bad(SINGLE.replace(stripes=(high,)), f"lies at {(1 << 63) - MIB} of device 1")


def test_a_length_that_is_wrong_hides_no_other_chunk() -> None:
    said: list[str] = []
    huge = chunk(0, 1, 1 << 50)
    chunks = ChunkMap([(0, huge), *((at * 8 * MIB, SINGLE) for at in range(1, 6))], said.append)
    assert [mapped.logical // MIB for mapped in chunks] == [8, 16, 24, 32, 40]
    assert len(said) == 1
    assert "chunk 0 of 1125899906842624 bytes overlaps" in said[0]


class Source:
    """Chunks that are only found when they are asked for."""

    def __init__(self, chunks: dict[int, Chunk]) -> None:
        self.chunks, self.asked = chunks, list[int]()

    def find(self, logical: int) -> tuple[int, Chunk] | None:
        self.asked.append(logical)
        start = max((start for start in self.chunks if start <= logical), default=None)
        return None if start is None else (start, self.chunks[start])

    def all(self) -> list[tuple[int, Chunk]]:
        return list(self.chunks.items())


def test_a_source_is_asked_once_for_each_chunk_and_for_all_only_by_iteration() -> None:
    length = SINGLE.length
    source = Source({start * length: SINGLE for start in range(1, 5)})
    chunks = ChunkMap([(length, SINGLE)], pytest.fail, source)
    assert chunks.find(length).logical == length
    assert source.asked == [length]
    for address in (3 * length, 4 * length - 1, 3 * length + 7):
        assert chunks.find(address).logical == 3 * length
    assert source.asked == [length, 3 * length]
    with pytest.raises(CorruptError, match="in no chunk"):
        chunks.find(0)
    assert [mapped.logical for mapped in chunks] == [start * length for start in range(1, 5)]


def test_a_source_that_needs_the_map_itself_does_not_recurse() -> None:
    class Circular(Source):
        def find(self, logical: int) -> tuple[int, Chunk] | None:
            chunks.find(logical)
            return None

    chunks = ChunkMap([], pytest.fail, Circular({}))
    with pytest.raises(CorruptError, match="in no chunk"):
        chunks.find(MIB)


def test_a_source_outdoes_the_chunks_that_it_is_read_by_but_may_lack_them() -> None:
    said: list[str] = []
    endless = SINGLE.replace(length=1 << 60)
    chunks = ChunkMap([(2 * MIB, endless), (0, SINGLE.replace(length=MIB))], said.append, Source({4 * MIB: SINGLE}))
    assert chunks.find(5 * MIB).length == SINGLE.length
    assert chunks.find(3 * MIB).length == 1 << 60
    assert chunks.find(7).length == MIB
    assert [mapped.logical for mapped in chunks] == [0, 4 * MIB]
    assert len(said) == 1
    assert f"chunk {2 * MIB} of {1 << 60} bytes overlaps" in said[0]


def test_where_a_source_is_broken_the_chunks_that_it_is_read_by_stand_in() -> None:
    class Broken(Source):
        def find(self, logical: int) -> tuple[int, Chunk] | None:
            raise CorruptError(f"no block for {logical}")

    chunks = ChunkMap([(0, SINGLE)], pytest.fail, Broken({}))
    assert chunks.find(7).logical == 0
    with pytest.raises(CorruptError, match=f"no block for {SINGLE.length}"):
        chunks.find(SINGLE.length)
