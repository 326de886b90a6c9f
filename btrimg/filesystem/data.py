"""File data: verified, decompressed, from whichever copy is good."""

from __future__ import annotations

from itertools import pairwise

from btrimg.errors import BtrimgError, ChecksumError, CorruptError, DeviceError
from btrimg.filesystem.extents import file_extents
from btrimg.units import MIB, round_down, round_up

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Protocol

    from btrimg.filesystem.csums import Csums
    from btrimg.filesystem.extents import FileExtentRow
    from btrimg.filesystem.inode import Inode
    from btrimg.volume.volume import Volume

    class Source(Protocol):
        """Where data are read: an Image, or a transaction under way."""

        @property
        def volume(self) -> Volume:
            """Return the devices."""

        @property
        def csums(self) -> Csums:
            """Return the stored checksums."""


READ_SIZE = 4 * MIB  #: bytes of one read of a large extent; of 1 GiB in cache, 1 MiB reads take a sixth longer


def read(inode: Inode, offset: int, length: int, *, verify: bool = True) -> bytes:
    """Return file bytes [offset, offset + length), fewer at the end of the file; holes and prealloc are zeros.

    With *verify* every sector is checked against its checksum and taken from the first copy that agrees. Raises
    ChecksumError when no copy does, DeviceError when none can be read, CorruptError for extents that make no sense.
    """
    end = min(offset + length, inode.item.size)
    parts: list[bytes] = []
    cursor = offset
    for at, piece in segments(inode, offset, end, verify=verify):
        parts += (bytes(at - cursor), piece)
        cursor = at + len(piece)
    parts.append(bytes(max(end - cursor, 0)))
    return b"".join(parts)


def segments(inode: Inode, start: int, end: int, *, verify: bool = True) -> Iterator[tuple[int, bytes]]:
    """Yield (file offset, bytes) of what is not a hole in [start, end), in order, at most READ_SIZE at once.

    Errors are those of :func:`read`; every sound sector of an uncompressed extent before the bad one comes first.
    """
    for row in file_extents(inode, start):
        if row.offset >= end:
            return
        if row.kind in ("hole", "prealloc"):
            continue
        first, last = max(row.offset, start), min(row.end, end)
        if row.kind == "regular":
            for at in range(first, last, READ_SIZE):
                yield from _sound(inode, row, at, min(at + READ_SIZE, last), verify=verify and inode.checksummed)
        elif first < last:
            yield first, row_bytes(inode.image, row, first, last, verify=verify and inode.checksummed)


def row_bytes(source: Source, row: FileExtentRow, first: int, last: int, *, verify: bool) -> bytes:
    """Return file bytes [first, last) of *row*, which has them; zeros of holes and prealloc.

    With *verify* every sector is checked. Errors are those of :func:`read`.
    """
    if row.kind in ("hole", "prealloc"):
        return bytes(last - first)
    if row.kind == "regular":
        return _regular(source, row, first, last, verify=verify)
    whole = _inline(source, row) if row.kind == "inline" else _compressed(source, row, verify=verify)
    return whole[first - row.offset : last - row.offset]


def _inline(source: Source, row: FileExtentRow) -> bytes:
    stored = row.inline or b""
    if not row.compression:
        return stored
    from btrimg.ondisk.compression import decompress

    return decompress(row.compression, stored, row.length, source.volume.sectorsize, inline=True)


def _compressed(source: Source, row: FileExtentRow, *, verify: bool) -> bytes:
    """Return the part of a compressed extent that *row* uses."""
    from btrimg.ondisk.compression import decompress

    extent = row.extent
    if extent is None:
        raise CorruptError(f"the compressed row at {row.offset} has no extent")
    stored = read_logical(source, extent.logical, extent.length, verify=verify)
    plain = decompress(row.compression, stored, extent.ram_bytes, source.volume.sectorsize)
    return plain[extent.offset : extent.offset + row.length]


def _sound(inode: Inode, row: FileExtentRow, first: int, last: int, *, verify: bool) -> Iterator[tuple[int, bytes]]:
    """Yield file bytes [first, last) of a regular extent at once, or by sectors up to one that cannot be had."""
    try:
        whole = _regular(inode.image, row, first, last, verify=verify)
    except (ChecksumError, DeviceError):
        step = inode.image.volume.sectorsize
        for at, stop in pairwise([first, *range(round_up(first + 1, step), last, step), last]):
            yield at, _regular(inode.image, row, at, stop, verify=verify)
    else:
        yield first, whole


def _regular(source: Source, row: FileExtentRow, first: int, last: int, *, verify: bool) -> bytes:
    logical = (row.logical or 0) + first - row.offset
    sectorsize = source.volume.sectorsize
    start, end = round_down(logical, sectorsize), round_up(logical + last - first, sectorsize)
    whole = read_logical(source, start, end - start, verify=verify)
    return whole[logical - start : logical - start + last - first] if len(whole) != last - first else whole


def read_logical(source: Source, logical: int, length: int, *, verify: bool) -> bytes:
    """Return data bytes at *logical*, whole sectors; with *verify* each is what its checksum says."""
    volume = source.volume
    if not verify:
        return volume.read(logical, length)
    expected = source.csums.lookup(logical, length)
    try:
        data = volume.read(logical, length)
    except DeviceError:
        data = None  # some sector; each is tried on its own below
    size = volume.csum.size
    if data is not None and volume.csum.digests(_sectors(data, volume.sectorsize)) == expected:
        return data
    return b"".join(
        _good_sector(source, logical + at, expected[i * size : (i + 1) * size])
        for i, at in enumerate(range(0, length, volume.sectorsize))
    )


def _sectors(data: bytes, sectorsize: int) -> Iterator[memoryview]:
    view = memoryview(data)
    return (view[at : at + sectorsize] for at in range(0, len(data), sectorsize))


def _good_sector(source: Source, logical: int, expected: bytes) -> bytes:
    volume = source.volume
    fault: BtrimgError = DeviceError(f"data at logical {logical}: no device that holds it can be read")
    for number, data in enumerate(volume.candidates(logical, volume.sectorsize)):
        found = volume.csum.digest(data)
        if found == expected:
            if number:
                volume.warn(f"data at logical {logical}: the first copy fails its checksum; another is good")
            return data
        fault = ChecksumError(
            f"data at logical {logical} fails its checksum on every copy: found {found.hex()}, "
            f"expected {expected.hex()}"
        )
    raise fault
