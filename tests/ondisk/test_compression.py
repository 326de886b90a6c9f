"""Compressed extents, against themselves, against hostile streams, and against the kernel in both directions."""

from __future__ import annotations

import ctypes
import fcntl
import os
import random
import re
import struct
import subprocess
import sys
import zlib
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import kernel

from btrimg.errors import CorruptError, UnsupportedError
from btrimg.ondisk.compression import compress, decompress
from btrimg.ondisk.constants import Compression
from btrimg.units import round_up

if TYPE_CHECKING:
    from collections.abc import Iterator

ZLIB, LZO, ZSTD = Compression.ZLIB, Compression.LZO, Compression.ZSTD
KINDS = pytest.mark.parametrize("kind", [ZLIB, LZO, ZSTD], ids=lambda kind: kind.name.lower())
MAX = 128 << 10


def noise(size: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size)


def words(size: int, seed: int = 1) -> bytes:
    """Make data that compresses to about a third."""
    return b"".join(random.Random(seed).choices([b"extent ", b"leaf\0", b"\0" * 40, b"chunk;"], k=size))[:size]


@st.composite
def contents(draw: st.DrawFn, max_size: int = MAX) -> bytes:
    """Draw runs of noise, repetition and zeros: segments of every length, sizes that end within a sector."""
    run = st.one_of(
        st.builds(noise, st.integers(1, 5000), st.integers(0, 9)),
        st.builds(bytes, st.integers(1, 20000)),
        st.builds(lambda unit, times: unit * times, st.binary(min_size=1, max_size=9), st.integers(1, 900)),
    )
    return b"".join(draw(st.lists(run, min_size=1, max_size=8)))[:max_size]


@KINDS
@given(contents(), st.sampled_from([4096, 16384, 65536]), st.integers(0, 8000))
def test_round_trip(kind: Compression, data: bytes, sectorsize: int, beyond: int) -> None:
    stream = compress(kind, data, sectorsize=sectorsize)
    padded = stream.ljust(round_up(len(stream), sectorsize), b"\0")
    assert decompress(kind, stream, len(data), sectorsize) == data
    assert decompress(kind, bytearray(padded), len(data), sectorsize) == data
    ram_bytes = min(len(data) + beyond, MAX)
    assert decompress(kind, padded, ram_bytes, sectorsize) == data.ljust(ram_bytes, b"\0")
    assert decompress(kind, memoryview(padded), len(data) // 2, sectorsize) == data[: len(data) // 2]


@KINDS
@given(contents(max_size=4096))
def test_round_trip_inline(kind: Compression, data: bytes) -> None:
    stream = compress(kind, data, sectorsize=4096)
    assert decompress(kind, stream, len(data), 4096, inline=True) == data


@KINDS
@given(st.data())
def test_flipped_bytes_are_an_error_or_full_length(kind: Compression, choose: st.DataObject) -> None:
    stream = bytearray(compress(kind, words(30000), sectorsize=4096))
    for _ in range(choose.draw(st.integers(1, 4))):
        stream[choose.draw(st.integers(0, len(stream) - 1))] ^= choose.draw(st.integers(1, 255))
    try:
        plain = decompress(kind, stream, 30000, 4096)
    except CorruptError:
        return
    assert len(plain) == 30000


@KINDS
@given(st.binary(max_size=200), st.integers(0, MAX))
def test_garbage_is_an_error_or_full_length(kind: Compression, data: bytes, ram_bytes: int) -> None:
    try:
        plain = decompress(kind, data, ram_bytes, 4096)
    except CorruptError:
        return
    assert len(plain) == ram_bytes


@KINDS
@pytest.mark.parametrize("keep", [0, 3, 8, 0.5, 0.9])
def test_cut_stream_is_an_error(kind: Compression, keep: float) -> None:
    stream = compress(kind, words(60000), sectorsize=4096)
    cut = stream[: keep if isinstance(keep, int) else int(len(stream) * keep)]
    with pytest.raises(CorruptError):
        decompress(kind, cut, 60000, 4096)


@KINDS
def test_more_than_an_extent_can_hold_is_refused(kind: Compression) -> None:
    stream = compress(kind, bytes(MAX), sectorsize=4096)
    assert decompress(kind, stream, MAX, 4096) == bytes(MAX)
    with pytest.raises(CorruptError, match="claims 131073 bytes of data, at most 131072"):
        decompress(kind, stream, MAX + 1, 4096)
    with pytest.raises(CorruptError, match="claims 4097 bytes of data, at most 4096"):
        decompress(kind, stream, 4097, 4096, inline=True)
    with pytest.raises(ValueError, match="131073 bytes do not fit"):
        compress(kind, bytes(MAX + 1), sectorsize=4096)


@pytest.mark.parametrize("kind", [0, 4, 255])
def test_unknown_kind_is_named(kind: int) -> None:
    with pytest.raises(UnsupportedError, match=f"compression type {kind} is not known"):
        decompress(kind, b"data", 4, 4096)
    with pytest.raises(UnsupportedError, match=f"compression type {kind} is not known"):
        compress(kind, b"data", sectorsize=4096)


def test_import_loads_no_codec() -> None:
    code = "import sys, btrimg.ondisk.compression; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"numpy", "construct", "zlib", "lzallright", "backports.zstd"} & set(run.stdout.split())


def test_levels_reach_the_codec() -> None:
    data = words(MAX)
    for kind, low, high in [(ZLIB, 1, 9), (ZSTD, -15, 15)]:
        sizes = [len(compress(kind, data, level=level, sectorsize=4096)) for level in (low, None, high)]
        assert sizes == sorted(set(sizes), reverse=True)
    assert compress(ZLIB, data, sectorsize=4096) == compress(ZLIB, data, level=3, sectorsize=4096)


# zlib and zstd


@pytest.mark.parametrize("ram_bytes", [9000, 9001, 60000])
def test_zlib_checksum_is_compared(ram_bytes: int) -> None:
    stream = bytearray(zlib.compress(words(9000)))
    stream[-1] ^= 1
    with pytest.raises(CorruptError, match=r"broken zlib stream: .*incorrect data check"):
        decompress(ZLIB, stream, ram_bytes, 4096)


@pytest.mark.parametrize("level", [-15, 1, 3, 15])
@pytest.mark.parametrize("size", [1, 5000, 70001, MAX])
def test_zstd_window_is_within_the_kernels_limit(level: int, size: int) -> None:
    frame = compress(ZSTD, noise(size), level=level, sectorsize=4096)
    assert _zstd_window(frame) <= 1 << 17


def _zstd_window(frame: bytes) -> int:
    """Return the window size that a frame header asks for (RFC 8878, 3.1.1.1)."""
    magic, descriptor, window = struct.unpack_from("<IBB", frame)
    assert magic == 0xFD2FB528
    if descriptor & 0x20:  # single segment: the window is the content, whose size stands here instead
        flag = descriptor >> 6
        value = int.from_bytes(frame[5 : 5 + (1 << flag)], "little")
        return value + 256 if flag == 1 else value
    base = 1 << 10 + (window >> 3)
    return int(base + (base >> 3) * (window & 7))


@pytest.mark.parametrize(("window_log", "readable"), [(17, True), (23, True), (24, False), (31, False)])
def test_zstd_window_decides_how_much_is_allocated(window_log: int, readable: bool) -> None:
    # Header with that window and no content size, one raw block of 5 bytes, the last.
    frame = struct.pack("<IBB", 0xFD2FB528, 0, window_log - 10 << 3) + bytes([5 << 3 | 1, 0, 0]) + b"btrfs"
    assert _zstd_window(frame) == 1 << window_log
    if readable:
        assert decompress(ZSTD, frame, 9, 4096) == b"btrfs\0\0\0\0"
    else:
        with pytest.raises(CorruptError, match="broken zstd stream"):
            decompress(ZSTD, frame, 9, 4096)


# LZO framing


def lzo_segments(extent: bytes, sectorsize: int) -> list[tuple[int, int]]:
    """Walk the framing as fs/btrfs/lzo.c reads it, sector by sector; return (offset, length) of each segment."""
    (total,) = struct.unpack_from("<I", extent)
    segments, at = [], 4
    while at < total:
        sector_left = sectorsize - at % sectorsize
        if sector_left < 4:
            assert extent[at : at + sector_left] == bytes(sector_left)
            at += sector_left
            continue
        (length,) = struct.unpack_from("<I", extent, at)
        segments.append((at + 4, length))
        at += 4 + length
    assert at == total
    return segments


@given(contents(), st.sampled_from([4096, 16384, 65536]))
def test_lzo_framing(data: bytes, sectorsize: int) -> None:
    extent = compress(LZO, data, sectorsize=sectorsize)
    assert struct.unpack_from("<I", extent) == (len(extent),)
    segments = lzo_segments(extent, sectorsize)
    assert len(segments) == -(-len(data) // sectorsize)
    # The kernel's buffer for one segment is lzo1x_worst_compress(sectorsize).
    assert all(0 < length <= sectorsize + sectorsize // 16 + 67 + 2 for _, length in segments)


@cache
def sector_that_leaves(left: int) -> bytes:
    """Find a sector of data whose segment leaves *left* bytes in the first sector of the extent."""
    for noisy in range(4096):
        data = noise(noisy).ljust(4096, b"\0")
        if lzo_segments(compress(LZO, data, sectorsize=4096), 4096) == [(8, 4096 - 8 - left)]:
            return data
    pytest.fail(f"no segment leaves {left} bytes")


@pytest.mark.parametrize("left", [0, 1, 2, 3, 4])
def test_lzo_length_never_crosses_a_sector(left: int) -> None:
    data = sector_that_leaves(left) + words(5000)
    extent = compress(LZO, data, sectorsize=4096)
    second = lzo_segments(extent, 4096)[1][0]
    assert second == (4100 if left < 4 else 4096)
    assert decompress(LZO, extent, len(data), 4096) == data


@pytest.mark.parametrize("left", [1, 2, 3])
def test_lzo_total_length_counts_the_padding_or_not(left: int) -> None:
    data = sector_that_leaves(left)
    extent = compress(LZO, data, sectorsize=4096)
    assert struct.unpack_from("<I", extent) == (4096,) == (len(extent),)
    assert decompress(LZO, extent, 8192, 4096) == data + bytes(4096)
    other = struct.pack("<I", 4096 - left) + extent[4:]
    assert decompress(LZO, other, 8192, 4096) == data + bytes(4096)


def lzo_extent(*segments: bytes, total: int | None = None) -> bytes:
    body = b"".join(struct.pack("<I", len(segment)) + segment for segment in segments)
    return struct.pack("<I", 4 + len(body) if total is None else total) + body


def test_lzo_lengths_are_bounded() -> None:
    segment = compress(LZO, b"extent" * 99, sectorsize=4096)[8:]
    good = lzo_extent(segment, segment)
    assert decompress(LZO, good, 1188, 4096) == b"extent" * 198
    size = len(good)
    for total, reason in [
        (0, f"total length is 0 in an extent of {size}"),
        (3, f"total length is 3 in an extent of {size}"),
        (size + 1, f"total length is {size + 1} in an extent of {size}"),
        (2**32 - 1, f"total length is 4294967295 in an extent of {size}"),
        (size - 1, f"LZO segment of {len(segment)} bytes"),
        (size - len(segment) - 1, "inside the length"),
    ]:
        with pytest.raises(CorruptError, match=reason):
            decompress(LZO, lzo_extent(segment, segment, total=total), 1188, 4096)
    for length in (0, 1, len(segment) + 1, 4422, 2**32 - 1):
        bad = good[:4] + struct.pack("<I", length) + good[8:]
        with pytest.raises(CorruptError, match="LZO segment"):
            decompress(LZO, bad.ljust(4096, b"\0"), 1188, 4096)
    long = struct.pack("<II", 8192, 4422).ljust(8192, b"\0")
    with pytest.raises(CorruptError, match=r"^LZO segment of 4422 bytes at 8 of 8192"):
        decompress(LZO, long, 1188, 4096)
    with pytest.raises(CorruptError, match="total length is 46 in an extent of 8192"):
        decompress(LZO, lzo_extent(segment, total=46).ljust(8192, b"\0"), 594, 4096)


def test_lzo_reads_no_further_than_needed() -> None:
    extent = lzo_extent(compress(LZO, b"extent" * 99, sectorsize=4096)[8:], b"broken")
    assert decompress(LZO, extent, 594, 4096) == b"extent" * 99
    with pytest.raises(CorruptError, match="broken LZO segment at"):
        decompress(LZO, extent, 595, 4096)


def test_lzo_segment_of_more_than_a_sector_is_refused() -> None:
    bomb = compress(LZO, bytes(65536), sectorsize=65536)
    with pytest.raises(CorruptError, match="holds 65536 bytes, more than a sector"):
        decompress(LZO, bomb, 100, 4096)


# The kernel as the other side


def run(*command: str | Path) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True, errors="replace").stdout


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "image"
    path.touch()
    os.truncate(path, 300 << 20)
    run("mkfs.btrfs", "-q", "-d", "single", "-m", "single", path)
    return path


def compressed_extents(image: Path) -> Iterator[tuple[int, int, Compression, bytes, int, bool]]:
    """Yield (inode, file offset, kind, stream, ram_bytes, inline) of each, found through dump-tree."""
    device = image.read_bytes()
    chunks = re.findall(
        r"CHUNK_ITEM (\d+)\).*?length (\d+) .*?stripe 0 devid 1 offset (\d+)",
        run("btrfs", "inspect-internal", "dump-tree", "-t", "chunk", image),
        re.DOTALL,
    )

    def at(logical: int, size: int) -> bytes:
        for start, length, physical in (map(int, chunk) for chunk in chunks):
            if start <= logical < start + length:
                return device[logical - start + physical : logical - start + physical + size]
        pytest.fail(f"logical {logical} is in no chunk")

    regular = r"disk byte (\d+) nr (\d+)\n.*offset 0 nr \d+ ram (\d+)\n.*compression (\d)"
    inline = r"inline extent data size (\d+) ram_bytes (\d+) compression (\d)"
    pattern = rf"^leaf (\d+)|key \((\d+) EXTENT_DATA (\d+)\) itemoff (\d+) .*\n.*\n.*(?:{regular}|{inline})"
    leaf = 0
    for row in re.findall(pattern, run("btrfs", "inspect-internal", "dump-tree", "-t", "fs", image), re.M):
        block, ino, offset, itemoff, *numbers = (int(cell or 0) for cell in row)
        disk_bytenr, disk_bytes, ram_bytes, kind, inline_size, inline_ram_bytes, inline_kind = numbers
        if block:
            leaf = block
        elif inline_kind:
            stream = at(leaf + 101 + itemoff + 21, inline_size)  # behind the block's header and the item's
            yield ino, offset, Compression(inline_kind), stream, inline_ram_bytes, True
        elif kind:
            yield ino, offset, Compression(kind), at(disk_bytenr, disk_bytes), ram_bytes, False


@pytest.mark.kernel
@KINDS
def test_extents_that_the_kernel_wrote(image: Path, kind: Compression) -> None:
    datas = [words(300_001), words(1500), noise(3000) + words(200_000) + bytes(70_000), words(MAX), words(5000)]
    # Two sectors that come to one: where LZO leaves 1 to 3 bytes of it, the total length counts them as padding.
    datas += [(noise(3700) + bytes(396) + noise(more)).ljust(8192, b"\0") for more in range(60, 80)]
    inodes: list[int] = []
    with kernel.mount([str(image)], options=[f"compress-force={kind.name.lower()}"]) as top:
        for number, data in enumerate(datas):
            path = Path(top, f"file{number}")
            path.write_bytes(data)
            inodes.append(path.stat().st_ino)
    seen = {ino: bytearray() for ino in inodes}
    inlines = padded = 0
    for ino, offset, found, stream, ram_bytes, inline in compressed_extents(image):
        assert (found, offset) == (kind, len(seen[ino]))
        seen[ino] += decompress(kind, stream, ram_bytes, 4096, inline=inline)
        inlines += inline
        if kind == LZO:
            last, length = lzo_segments(stream, 4096)[-1]
            padded += last + length < struct.unpack_from("<I", stream)[0]
    for ino, data in zip(inodes, datas, strict=True):
        size = len(data) if len(data) < 4096 else round_up(len(data), 4096)
        assert seen[ino] == data.ljust(size, b"\0")
    assert inlines == 1
    assert padded > 0 or kind != LZO


@pytest.mark.kernel
@KINDS
def test_the_kernel_reads_what_we_compress(image: Path, kind: Compression) -> None:
    files = [(words(size, seed=size), size) for size in (1500, 5000, 70_001, MAX)]
    files += [(noise(3000) + bytes(30_000) + words(40_000) + noise(5000), 78_000)]
    files += [(words(9000), 12_000), (words(9000), 5000)]  # the stream ends early, goes on
    for left in range(5):
        files += [(sector_that_leaves(left) + words(5000), 9096), (sector_that_leaves(left), 8192)]
    with kernel.mount([str(image)]) as top:
        for number, (data, size) in enumerate(files):
            encoded_write(Path(top, f"file{number}"), kind, compress(kind, data, sectorsize=4096), size)
    with kernel.mount([str(image)], read_only=True) as top:
        for number, (data, size) in enumerate(files):
            assert Path(top, f"file{number}").read_bytes() == data[:size].ljust(size, b"\0")
    assert [ino for ino, *_ in compressed_extents(image)] == list(range(257, 257 + len(files)))


def encoded_write(path: Path, kind: Compression, stream: bytes, size: int) -> None:
    """Store *stream* as the extent of a new file, undecoded (BTRFS_IOC_ENCODED_WRITE, since v5.18)."""
    buffer = ctypes.create_string_buffer(stream, len(stream))
    vector = (ctypes.c_size_t * 2)(ctypes.addressof(buffer), len(stream))
    encoding = {ZLIB: 1, ZSTD: 2, LZO: 3}[kind]  # BTRFS_ENCODED_IO_COMPRESSION_*; LZO in sectors of 4 KiB
    head = struct.pack("<QQqQQQQII", ctypes.addressof(vector), 1, 0, 0, size, size, 0, encoding, 0)
    args = bytearray(head.ljust(128, b"\0"))
    with path.open("wb") as file:
        stored: object = fcntl.ioctl(file, 0x40809440, args)
        assert stored == len(stream)
