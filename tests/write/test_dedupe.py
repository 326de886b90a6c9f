"""Equal data shared by a sink, on a device that remembers; whatever is shared, it reads back."""

from __future__ import annotations

import io
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.listed import ListedTree

from btrimg.ondisk.blocks import Key
from btrimg.ondisk.constants import MAX_COMPRESSED, Compression, ItemType, TreeId
from btrimg.ondisk.extents import ExtentItem, FileExtent
from btrimg.trees.overlay import OverlayTree
from btrimg.units import round_up
from btrimg.write import dedupe as dedupe_module
from btrimg.write.data import PIECE, DataSink

from .test_data import Memory, content, plain_of, sink_of

SECTOR = 4096
WINDOW = dedupe_module._WINDOW


class Readable(Memory):
    """One whose device is read while it is written, and that keeps an extent tree of the last commit."""

    def __init__(self, sectorsize: int = SECTOR) -> None:
        super().__init__(sectorsize)
        self.volume.read = self.read
        self.extents: dict[Key, bytes] = {}

    def tree(self, tree_id: int) -> OverlayTree:
        assert tree_id == TreeId.EXTENT_TREE
        return OverlayTree(ListedTree(self.extents))

    def commit(self, freed: int = 0) -> None:
        """Remember all extents but the first *freed* ones."""
        for logical, length in self.taken[freed:]:
            self.extents.setdefault(
                Key(logical, ItemType.EXTENT_ITEM, length), ExtentItem(1, self.generation, 1).pack()
            )
        self.generation += 1


@pytest.fixture(autouse=True)
def small_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dedupe_module, "_SLOTS", 1 << 20)


def sharing(memory: Memory) -> DataSink:
    sink = sink_of(memory)
    sink.sharing = True
    return sink


def noise(sectors: int, seed: int) -> bytes:
    return random.Random(seed).randbytes(sectors * SECTOR)


def places(extents: list[FileExtent]) -> list[tuple[int, int]]:
    """Return (logical, length) of what each file extent shows."""
    return [(each.disk_bytenr + each.offset, each.num_bytes) for each in extents]


def read_back(memory: Memory, sink: DataSink, extents: list[FileExtent]) -> bytes:
    sink.flush()
    return b"".join(plain_of(memory, extent) for extent in extents)


# Files of sectors out of a few, so that runs of them are met again at other places, in the same file too.
FILES = st.lists(st.lists(st.integers(0, 7) | st.just(0), min_size=1, max_size=70), min_size=1, max_size=6)


@pytest.mark.parametrize("weak", [False, True])
@settings(max_examples=40)
@given(files=FILES, tail=st.integers(0, 4095), sectorsize=st.sampled_from((4096, 65536)))
def test_what_is_shared_reads_back(weak: bool, files: list[list[int]], tail: int, sectorsize: int) -> None:
    memory = Readable(sectorsize)
    sink = sharing(memory)
    pool = [bytes(SECTOR), *(noise(1, seed) for seed in range(1, 8))]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dedupe_module, "_SLOTS", 8)
        if weak:  # what has the same fingerprint need not be the same
            patch.setattr(dedupe_module, "xxh3_64_intdigest", lambda data, seed=0: bytes(data)[5] % 3 + seed)
        for numbers in files:
            data = b"".join(pool[number] for number in numbers)[tail:]
            extents = sink.store(data)
            assert read_back(memory, sink, extents) == data.ljust(round_up(len(data), sectorsize), b"\0")
            for extent in extents:
                assert (extent.disk_bytenr, extent.disk_num_bytes) in memory.taken
                assert extent.offset + extent.num_bytes <= extent.ram_bytes
    sink.close()


def test_a_file_that_comes_again_takes_no_space() -> None:
    memory = Readable()
    sink = sharing(memory)
    data = noise(40, 1) + b"tail"
    first, again = sink.store(data), sink.store(data)
    assert again == first
    assert memory.taken == places(first) == [(1 << 30, 41 * SECTOR)]
    sink.close()


def test_equal_runs_are_found_at_any_sector_and_split_nothing_else() -> None:
    memory = Readable()
    sink = sharing(memory)
    base = sink.store(noise(100, 1))[0].disk_bytenr
    mixed = noise(3, 2) + noise(100, 1)[10 * SECTOR : 60 * SECTOR] + noise(5, 3)
    extents = sink.store(mixed)
    assert places(extents) == [
        (base + 100 * SECTOR, 3 * SECTOR),
        (base + 10 * SECTOR, 50 * SECTOR),
        (base + 103 * SECTOR, 5 * SECTOR),
    ]
    assert [each.disk_num_bytes // SECTOR for each in extents] == [3, 100, 5]
    assert read_back(memory, sink, extents) == mixed
    sink.close()


def test_data_that_repeat_themselves_are_shared_by_windows() -> None:
    memory = Readable()
    sink = sharing(memory)
    zeros = sink.store(bytes(1 << 20))
    assert places(zeros) == [(1 << 30, WINDOW)] * 16
    twice = sink.store(noise(100, 1) + noise(100, 1))
    assert sum(length for _, length in memory.taken[1:]) == 100 * SECTOR
    assert read_back(memory, sink, twice) == noise(100, 1) * 2
    sink.close()


def test_what_the_table_has_lost_is_found_from_its_neighbours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dedupe_module, "_SLOTS", 32)
    memory = Readable()
    sink = sharing(memory)
    first = sink.store(noise(100, 1))
    for seed in range(2, 100):  # sectors that displace most others
        sink.store(noise(1, seed))
    assert sink.store(noise(100, 1)) == first
    sink.close()


def test_large_files_are_shared_piece_by_piece() -> None:
    memory = Readable()
    sink = sharing(memory)
    data = noise(PIECE // SECTOR + 30, 1)
    first = sink.stream(io.BytesIO(data).read, len(data))
    moved = noise(1, 2) + data
    again = sink.stream(io.BytesIO(moved).read, len(moved))
    assert places(first) == memory.taken[:2]
    assert memory.taken[2:] == places(again[:1])
    assert read_back(memory, sink, again) == moved
    sink.close()


@pytest.mark.parametrize("other", [Compression.NONE, Compression.ZLIB])
def test_compressed_chunks_are_shared_with_those_of_the_same_algorithm(other: Compression) -> None:
    memory = Readable()
    sink = sharing(memory)
    chunks = [content(["text"], [MAX_COMPRESSED - 3 * seed], seed) for seed in range(2)]
    first = sink.store(chunks[0] + chunks[1], compression=Compression.ZSTD)
    assert sink.store(b"".join(chunks), compression=Compression.ZSTD) == first
    assert sink.store(sink.prepare(chunks[1], Compression.ZSTD)) == first[1:]
    taken = len(memory.taken)
    assert sink.store(chunks[0], compression=other) != first[:1]
    assert len(memory.taken) > taken
    sink.close()


def test_a_chunk_with_the_fingerprint_of_another_is_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dedupe_module, "xxh3_64_intdigest", lambda data, seed=0: 7)
    memory = Readable()
    sink = sharing(memory)
    for seed, kind in enumerate([*Compression, *Compression]):
        data = content(["text"], [50_000], seed)
        extents = sink.store(data, compression=kind)
        assert read_back(memory, sink, extents)[: len(data)] == data
    assert len(memory.taken) == 2 * len(Compression)
    sink.close()


def test_what_a_commit_freed_is_not_shared() -> None:
    memory = Readable()
    sink = sharing(memory)
    data = [noise(4, 1), noise(4, 2)]
    before = [sink.store(each)[0] for each in data]
    memory.commit(freed=1)
    after = [sink.store(each)[0] for each in data]
    assert after[0].disk_bytenr not in (before[0].disk_bytenr, before[1].disk_bytenr)
    assert after[0].generation == memory.generation
    assert after[1] == before[1]
    sink.flush()
    memory.commit()
    assert sink.store(data[0]) == after[:1]
    # Another extent where that one was: of another generation.
    key = Key(after[0].disk_bytenr, ItemType.EXTENT_ITEM, after[0].disk_num_bytes)
    memory.extents[key] = ExtentItem(1, memory.generation, 1).pack()
    memory.commit()
    assert sink.store(data[0]) != after[:1]
    sink.close()


@pytest.mark.parametrize("how", [{"nodatasum": True}, {"at": 1 << 40}, {"pieces": 2}])
def test_who_says_how_data_are_stored_has_them_stored_so(how: dict[str, Any]) -> None:
    memory = Readable()
    sink = sharing(memory)
    extents = sink.store(noise(4, 1)) + sink.store(noise(4, 1), **how)
    assert memory.taken == places(extents)
    sink.sharing = False
    sink.store(noise(4, 1))
    assert len(memory.taken) == len(extents) + 1
    sink.close()
