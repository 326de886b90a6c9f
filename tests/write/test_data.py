"""File data stored into free space of many shapes, and read back by the records that were given for them."""

from __future__ import annotations

import io
import random
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.listed import ListedTree

from btrimg.errors import BtrimgError
from btrimg.ondisk.compression import decompress
from btrimg.ondisk.constants import MAX_COMPRESSED, Compression, CsumType, FileExtentType
from btrimg.ondisk.csum import algorithm
from btrimg.ondisk.extents import FileExtent, FileExtentInline
from btrimg.trees.overlay import OverlayTree
from btrimg.units import round_up
from btrimg.write import data as data_module
from btrimg.write.behind import FULL
from btrimg.write.csums import PendingCsums
from btrimg.write.data import PIECE, DataSink, shares
from btrimg.write.encode import pays
from btrimg.write.inline import most_inline

if TYPE_CHECKING:
    from collections.abc import Callable

    from typing_extensions import Buffer

GENERATION = 77
SECTORSIZES = st.sampled_from((4096, 8192, 65536))
CODINGS = st.sampled_from(
    [(Compression.NONE, None), (Compression.ZLIB, 1), (Compression.LZO, None), (Compression.ZSTD, 3)]
)


INCOMPAT = {0: 0, Compression.ZLIB: 0, Compression.LZO: 1 << 3, Compression.ZSTD: 1 << 4}


class Run(NamedTuple):
    logical: int
    length: int


class Memory:
    """A transaction over a space of which every gap is at most *gap* bytes, and a device that remembers."""

    def __init__(self, sectorsize: int = 4096, csum_type: int = CsumType.CRC32C, gap: int = 1 << 40) -> None:
        csum = algorithm(csum_type)
        self.volume: Any = SimpleNamespace(sectorsize=sectorsize, nodesize=16384, csum=csum)
        self.csums = PendingCsums(csum.size, sectorsize, 16384)
        self.generation = GENERATION
        self.space = self.writer = self.refs = self
        self.gap, self.end = round_up(gap, sectorsize), 1 << 30
        self.taken: list[tuple[int, int]] = []
        self.written: list[tuple[int, bytes]] = []
        self.superblock = self
        self.incompat_flags = 0
        self.before_commit: list[Callable[[], None]] = []

    def allocate_data(self, length: int, *, longest: int = 128 << 20, at: int | None = None) -> list[Run]:
        runs = []
        while length:
            size = min(length, longest, self.gap)
            runs.append(Run(self.end if at is None else at, size))
            self.end += size if size < self.gap else size + self.volume.sectorsize
            at = None if at is None else at + size
            length -= size
        return runs

    def give_back(self, logical: int, length: int) -> None:
        """Take no note: what comes next lies further on, as if something else had taken the place."""

    def set_incompat(self, bits: int) -> None:
        self.incompat_flags |= bits

    def new_data_extent(self, logical: int, length: int) -> None:
        self.taken.append((logical, length))

    def write(self, logical: int, data: Buffer) -> None:
        self.written.append((logical, bytes(data)))

    def read(self, logical: int, length: int) -> bytes:
        """Return what was written; none of it twice."""
        pieces = [
            (max(start, logical), data[max(logical - start, 0) : logical + length - start])
            for start, data in self.written
            if start < logical + length and logical < start + len(data)
        ]
        assert sum(len(data) for _, data in pieces) == length
        return b"".join(data for _, data in sorted(pieces))

    def sums(self) -> dict[int, bytes]:
        """Return the checksums, by logical address of the sector."""
        tree, size = OverlayTree(ListedTree({})), self.volume.csum.size
        self.csums.apply(tree)
        return {
            key.offset + at // size * self.volume.sectorsize: payload[at : at + size]
            for key, payload in tree.items()
            for at in range(0, len(payload), size)
        }


def sink_of(memory: Memory) -> DataSink:
    txn: Any = memory
    return DataSink(txn)


def content(kinds: list[str], sizes: list[int], seed: int = 1) -> bytes:
    """Return pieces that do not compress, compress well, or are zeros."""
    rng = random.Random(seed)
    makers: dict[str, Callable[[int], bytes]] = {
        "noise": rng.randbytes,
        "text": lambda n: (b"all work %d and no play %d " % (seed, n) * n)[:n],
        "zeros": bytes,
    }
    return b"".join(makers[kind](size) for kind, size in zip(kinds, sizes, strict=True))


MIXES = st.lists(
    st.tuples(st.sampled_from(["noise", "text", "zeros"]), st.integers(1, 9000) | st.integers(60_000, 300_000)),
    max_size=5,
)


def plain_of(memory: Memory, extent: FileExtent) -> bytes:
    """Return the data that a file extent stands for."""
    stored = memory.read(extent.disk_bytenr, extent.disk_num_bytes)
    if extent.compression:
        stored = decompress(extent.compression, stored, extent.ram_bytes, memory.volume.sectorsize)
    return stored[extent.offset : extent.offset + extent.num_bytes]


def check(memory: Memory, extents: list[FileExtent], data: bytes, *, summed: bool) -> None:
    """Check that *extents*, all that there are, hold *data*, and that their checksums are there."""
    sector, digest = memory.volume.sectorsize, memory.volume.csum.digest
    assert memory.taken == [(extent.disk_bytenr, extent.disk_num_bytes) for extent in extents]
    whole = b"".join(plain_of(memory, extent) for extent in extents)
    assert whole == data.ljust(round_up(len(data), sector), b"\0")
    places = [at for start, length in memory.taken for at in range(start, start + length, sector)]
    assert memory.sums() == ({at: digest(memory.read(at, sector)) for at in places} if summed else {})
    for extent in extents:
        assert (extent.generation, extent.type, extent.offset) == (GENERATION, FileExtentType.REGULAR, 0)
        assert extent.num_bytes == extent.ram_bytes
        assert extent.num_bytes % sector == extent.disk_num_bytes % sector == 0
        assert extent.disk_num_bytes == extent.ram_bytes if not extent.compression else (
            extent.disk_num_bytes < extent.ram_bytes <= MAX_COMPRESSED
        )  # fmt: skip


@settings(max_examples=60)
@given(MIXES, SECTORSIZES, CODINGS, st.booleans(), st.integers(1, 5), st.sampled_from((1 << 40, 100_000, 1)))
def test_what_is_stored_reads_back_and_has_its_checksums(
    mix: list[tuple[str, int]], sectorsize: int, coding: tuple[int, int | None], nodatasum: bool, pieces: int, gap: int
) -> None:
    memory = Memory(sectorsize, gap=gap)
    sink = sink_of(memory)
    data = content([kind for kind, _ in mix], [size for _, size in mix])
    kind, level = coding
    extents = sink.store(data, compression=kind, level=level, nodatasum=nodatasum, pieces=pieces)
    sink.flush()
    sink.close()
    check(memory, extents, data, summed=not nodatasum)
    used = {extent.compression for extent in extents}
    assert used <= ({0} if nodatasum else {0, kind})
    assert memory.incompat_flags == sum(INCOMPAT[each] for each in used)
    assert len(extents) >= min(pieces, -(-len(data) // sectorsize))


@pytest.mark.parametrize("csum_type", list(CsumType))
def test_neighbours_are_written_at_once(csum_type: CsumType) -> None:
    memory = Memory(csum_type=csum_type)
    sink = sink_of(memory)
    files = [random.Random(number).randbytes(19_000 + number) for number in range(500)]
    extents = [sink.store(file) for file in files]
    sink.flush()
    assert [len(each) for each in extents] == [1] * 500
    assert [memory.read(each.disk_bytenr, len(file)) for (each,), file in zip(extents, files, strict=True)] == files
    assert len(memory.written) == -(-500 * 20480 // FULL)
    assert len(memory.sums()) == sum(each.disk_num_bytes for (each,) in extents) // 4096
    sink.close()


@given(st.lists(st.integers(1, 30_000), max_size=12), SECTORSIZES, st.booleans(), st.sampled_from((1 << 40, 70_000, 1)))
def test_contents_stored_together_lie_side_by_side(
    lengths: list[int], sectorsize: int, nodatasum: bool, gap: int
) -> None:
    memory = Memory(sectorsize, gap=gap)
    sink = sink_of(memory)
    contents = [random.Random(length).randbytes(length) for length in lengths]
    placed = sink.store_all(contents, nodatasum=nodatasum)
    sink.flush()
    assert [tuple(run) for runs in placed for run in runs] == memory.taken
    for data, runs in zip(contents, placed, strict=True):
        whole = b"".join(memory.read(*run) for run in runs)
        assert whole == data.ljust(round_up(len(data), sectorsize), b"\0")
    sectors = sum(length for _, length in memory.taken) // sectorsize
    assert len(memory.sums()) == (0 if nodatasum else sectors)
    if gap == 1 << 40:
        assert len(memory.written) == bool(lengths)
    sink.close()


def test_data_with_and_without_checksums_alternate() -> None:
    memory = Memory()
    sink = sink_of(memory)
    extents = [sink.store(bytes([number]) * 5000, nodatasum=number % 2 == 1)[0] for number in range(9)]
    sink.flush()
    sums = memory.sums()
    assert [extent.disk_bytenr in sums for extent in extents] == [True, False] * 4 + [True]
    assert len(sums) == 10
    sink.close()


def test_a_large_file_is_read_in_pieces_and_makes_long_extents(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data_module, "LONGEST", 3 * PIECE)
    data = random.Random(5).randbytes(PIECE) * 7 + b"tail"
    asked: list[int] = []

    def read(size: int) -> bytes:
        asked.append(size)
        return data[sum(asked) - size : sum(asked)]

    memory = Memory()
    sink = sink_of(memory)
    extents = sink.stream(read, len(data))
    sink.flush()
    check(memory, extents, data, summed=True)
    assert [extent.num_bytes for extent in extents] == [3 * PIECE, 3 * PIECE, PIECE + 4096]
    assert asked == [PIECE] * 7 + [4]
    sink.close()


def test_a_large_file_is_compressed_in_chunks_and_what_does_not_shrink_stays_together() -> None:
    noise, text = content(["noise"], [6 * MAX_COMPRESSED]), content(["text"], [MAX_COMPRESSED])
    data = text + noise + text * 40 + content(["noise"], [100_001], 9)
    memory = Memory()
    sink = sink_of(memory)
    extents = sink.stream(io.BytesIO(data).read, len(data), compression=Compression.ZSTD, level=1)
    sink.flush()
    check(memory, extents, data, summed=True)
    assert [(each.compression, each.num_bytes) for each in extents[:3]] == [
        (Compression.ZSTD, MAX_COMPRESSED),
        (Compression.NONE, 6 * MAX_COMPRESSED),
        (Compression.ZSTD, MAX_COMPRESSED),
    ]
    assert (extents[-1].compression, extents[-1].num_bytes) == (Compression.NONE, 102_400)
    sink.close()


def test_a_stream_that_finds_no_room_in_one_piece_is_not_stored() -> None:
    memory = Memory(gap=4096)
    sink = sink_of(memory)
    data = content(["text", "noise"], [80_000, 20_000])
    extents = sink.store(data, compression=Compression.ZLIB)
    sink.flush()
    check(memory, extents, data, summed=True)
    assert {each.compression for each in extents} == {Compression.NONE}
    sink.close()


@pytest.mark.parametrize(
    ("plain", "stream", "expected"),
    [(8192, 4096, True), (8192, 4097, False), (5000, 4096, True), (4096, 1, False), (131072, 126_976, True),
     (131072, 126_977, False)],
)  # fmt: skip
def test_compression_pays_when_it_saves_a_sector(plain: int, stream: int, expected: bool) -> None:
    assert pays(plain, stream, 4096) == expected


def test_prepared_data_are_stored_as_if_at_once() -> None:
    files = [content(["text", "noise", "text"], [number * 900, number * 70, 40_000], number) for number in range(30)]
    stored = []
    for ahead in (False, True):
        memory = Memory()
        sink = sink_of(memory)
        things: list[Any] = [sink.prepare(file, Compression.ZSTD) for file in files] if ahead else files
        extents = [sink.store(thing, compression=Compression.ZSTD) for thing in things]
        sink.flush()
        stored.append((extents, memory.written, memory.sums()))
        sink.close()
    assert stored[0] == stored[1]


@pytest.mark.parametrize("kind", [Compression.ZLIB, Compression.LZO, Compression.ZSTD])
@pytest.mark.parametrize("gap", [1 << 40, 20_000, 4096])
def test_contents_compressed_together_are_stored_as_one_by_one(kind: Compression, gap: int) -> None:
    shapes = [(0, 0), (1, 0), (10, 1), (3000, 10), (4096, 0), (0, 4096), (4097, 0), (9000, 3000), (0, 9000), (5000, 0)]
    files = [content(["text", "noise"], [*shape], number) for number, shape in enumerate(shapes)]
    files += [content(["zeros"], [MAX_COMPRESSED]), content(["text", "noise"], [60_000, 30_000])]
    together, one_by_one = Memory(gap=gap), Memory(gap=gap)
    sink = sink_of(together)
    streams = sink.prepare_all(files, kind, None).result()
    made = sink.store_encoded(zip(files, streams, strict=True), kind)
    sink.flush()
    sink.close()
    sink = sink_of(one_by_one)
    for file, extents in zip(files, made, strict=True):
        prepared = sink.prepare(file, kind)
        inline = sink.inline(prepared)
        expected = [inline] if inline else sink.store(prepared)
        assert [_without_place(each) for each in extents] == [_without_place(each) for each in expected]
    assert [length for _, length in together.taken] == [length for _, length in one_by_one.taken]
    assert together.incompat_flags == one_by_one.incompat_flags == INCOMPAT[kind]
    sink.flush()
    sink.close()
    assert b"".join(data for _, data in together.written) == b"".join(data for _, data in one_by_one.written)
    assert (together.taken == one_by_one.taken) == (gap == 1 << 40)


def _without_place(extent: FileExtent | FileExtentInline) -> FileExtent | FileExtentInline:
    return extent.replace(disk_bytenr=0) if isinstance(extent, FileExtent) else extent


def test_pieces_and_places() -> None:
    memory = Memory()
    sink = sink_of(memory)
    extents = sink.store(bytes(10_000), at=1 << 40, pieces=2)
    extents += sink.preallocate(10_000, at=2 << 40, pieces=9)
    sink.flush()
    assert [(each.type, each.disk_bytenr, each.num_bytes) for each in extents] == [
        (FileExtentType.REGULAR, 1 << 40, 4096),
        (FileExtentType.REGULAR, (1 << 40) + 4096, 8192),
        (FileExtentType.PREALLOC, 2 << 40, 4096),
        (FileExtentType.PREALLOC, (2 << 40) + 4096, 4096),
        (FileExtentType.PREALLOC, (2 << 40) + 8192, 4096),
    ]
    assert sum(len(data) for _, data in memory.written) == 12288
    assert len(memory.sums()) == 3
    sink.close()


@given(st.integers(0, 1 << 40), st.integers(1, 50), SECTORSIZES)
def test_shares_are_whole_sectors_and_as_equal_as_these_allow(length: int, pieces: int, sectorsize: int) -> None:
    parts = list(shares(length, pieces, sectorsize))
    assert sum(parts) == length
    assert len(parts) == min(pieces, -(-length // sectorsize))
    assert all(part % sectorsize == 0 for part in parts[:-1])
    sectors = [-(-part // sectorsize) for part in parts]
    assert not sectors or max(sectors) - min(sectors) <= 1


def test_nothing_has_no_extents() -> None:
    memory = Memory()
    sink = sink_of(memory)
    assert sink.store(b"") == sink.store(b"", compression=Compression.ZLIB) == sink.preallocate(0) == []
    assert sink.inline(b"") is sink.inline(b"", compression=Compression.ZLIB) is None
    sink.flush()
    assert (memory.taken, memory.written) == ([], [])
    sink.close()


def test_data_that_end_early_are_an_error() -> None:
    sink = sink_of(Memory())
    with pytest.raises(BtrimgError, match="the data end early: 7 bytes came where 10000 were due"):
        sink.stream(lambda _: bytes(7), 10_000)
    sink.close()


def test_what_the_writing_thread_raises_is_raised() -> None:
    memory = Memory()

    def write(logical: int, data: Buffer) -> None:
        raise BtrimgError("the device is gone")

    memory.writer.write = write  # type: ignore[method-assign]
    sink = sink_of(memory)
    sink.store(b"data")
    with pytest.raises(BtrimgError, match="the device is gone"):
        sink.flush()
    sink.close()


# Inline


INLINE_CASES = [  # sector size, content, its length, compression, limit, and whether the file is inline
    (4096, "noise", 1, 0, 2048, True),
    (4096, "noise", 2048, 0, 2048, True),
    (4096, "noise", 2049, 0, 2048, False),
    (4096, "noise", 2048, 1, 2048, True),
    (4096, "text", 4096, 1, 2048, True),
    (4096, "text", 4096, 3, 2048, True),
    (4096, "text", 4096, 2, 2048, True),
    (4096, "text", 4097, 1, 2048, False),
    (4096, "noise", 4095, 0, 4096, True),
    (4096, "noise", 4096, 0, 4096, False),
    (4096, "text", 100, 0, 0, False),
    (65536, "noise", 2048, 0, 2048, True),
    (65536, "noise", 17_000, 0, 65536, False),
    (65536, "text", 65536, 3, 2048, True),
]


@pytest.mark.parametrize(("sectorsize", "kind", "length", "compression", "limit", "expected"), INLINE_CASES)
@pytest.mark.parametrize("ahead", [False, True])
def test_small_files_are_inline(
    sectorsize: int, kind: str, length: int, compression: int, limit: int, expected: bool, ahead: bool
) -> None:
    memory = Memory(sectorsize)
    sink = sink_of(memory)
    data = content([kind], [length])
    thing = sink.prepare(data, compression) if ahead else data
    item = sink.inline(thing, compression=compression, max_inline=limit)
    sink.close()
    assert (item is not None) == expected
    if item:
        assert (item.generation, item.ram_bytes, item.type) == (GENERATION, length, FileExtentType.INLINE)
        assert item.compression == (compression if kind == "text" else 0)
        assert memory.incompat_flags == INCOMPAT[item.compression]
        plain = (
            decompress(item.compression, item.data, length, sectorsize, inline=True) if item.compression else item.data
        )
        assert plain == data
        assert len(item.data) <= min(limit, sectorsize - 1)


def test_inline_data_fit_a_leaf() -> None:
    volume: Any = SimpleNamespace(nodesize=4096, sectorsize=65536)
    assert most_inline(volume, 65536) == 4096 - 101 - 25 - 21
