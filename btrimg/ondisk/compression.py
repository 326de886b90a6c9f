"""Compressed extents: the streams inside file extents, in both directions.

A compressed extent holds at most 128 KiB of file data, and zeros pad its stream to whole sectors; an inline
one holds at most one sector and is not padded. zlib and zstd extents are one zlib stream and one zstd frame.
LZO has framing of btrfs's own (``fs/btrfs/lzo.c``), its lengths little-endian u32::

    total length, from here to the end of the last segment
    segment length, LZO1X stream of one sector of file data (the last sector may be cut short)
    segment length, ...

A segment length never crosses a sector boundary of the extent: where fewer than four bytes are left in a
sector, zeros fill it. The kernel does so behind the last segment too, and counts those zeros in the total.
"""

from __future__ import annotations

import struct
import sys
from _thread import _local as local  # threading takes 1.3 ms to import
from functools import cache

from btrimg.errors import CorruptError, UnsupportedError
from btrimg.ondisk.constants import MAX_COMPRESSED, Compression
from btrimg.units import round_up

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType
    from typing import Any, Protocol

    Buffer = bytes | bytearray | memoryview

    class _Stream(Protocol):
        """What the decompressors of zlib and zstd have in common."""

        @property
        def eof(self) -> bool: ...

        def decompress(self, data: Buffer, max_length: int, /) -> bytes: ...


_LENGTH = struct.Struct("<I")

# The kernel's limit is 17 (ZSTD_BTRFS_MAX_WINDOWLOG), yet encoded writes store frames that it has never read.
# 8 MiB is what RFC 8878 asks of every decoder; a larger window only serves to make us allocate it.
_WINDOW_LOG_MAX = 23

_DEFAULT_LEVEL = 3  # of zlib and zstd alike: BTRFS_ZLIB_DEFAULT_LEVEL, ZSTD_BTRFS_DEFAULT_LEVEL


def decompress(kind: int, data: Buffer, ram_bytes: int, sectorsize: int, *, inline: bool = False) -> bytes:
    """Decode *data*, a whole extent compressed by *kind*, to exactly *ram_bytes* bytes.

    Like the kernel, fills up with zeros where the stream ends early, cuts it where it goes on, and takes what
    follows its end for padding. Raises UnsupportedError unless *kind* is a `Compression` other than NONE, and
    CorruptError where the stream is broken or *ram_bytes* more than such an extent can hold.
    """
    limit = sectorsize if inline else MAX_COMPRESSED
    if ram_bytes > limit:
        raise CorruptError(f"compressed extent claims {ram_bytes} bytes of data, at most {limit} are possible")
    if kind not in _DECODERS:
        raise _unknown(kind)
    plain = _DECODERS[kind](memoryview(data), ram_bytes, sectorsize)
    return plain[:ram_bytes].ljust(ram_bytes, b"\0")


def compress(kind: int, data: Buffer, *, level: int | None = None, sectorsize: int) -> bytes:
    """Encode *data* as the kernel's *kind* of compressed extent, without the padding to whole sectors.

    *level* is that of zlib (1..9) or zstd (-15..15), as in the kernel 3 by default; LZO has none. The result
    can be longer than *data*: whether to store it is the caller's decision. Raises UnsupportedError unless
    *kind* is a `Compression` other than NONE, and ValueError for more than 128 KiB of *data*.
    """
    if len(data) > MAX_COMPRESSED:
        raise ValueError(f"{len(data)} bytes do not fit a compressed extent, which holds {MAX_COMPRESSED}")
    if kind not in _ENCODERS:
        raise _unknown(kind)
    return _ENCODERS[kind](memoryview(data), _DEFAULT_LEVEL if level is None else level, sectorsize)


def _unknown(kind: int) -> UnsupportedError:
    return UnsupportedError(f"compression type {kind} is not known (1 is zlib, 2 lzo, 3 zstd)")


def _decode_stream(name: str, stream: _Stream, error: type[Exception], data: Buffer, ram_bytes: int) -> bytes:
    """Return at most *ram_bytes* of what *stream* makes of *data*; its checksum is compared if the end is reached."""
    try:
        plain = stream.decompress(data, max(ram_bytes, 1))  # to zlib, 0 means no limit
    except error as reason:
        raise CorruptError(f"broken {name} stream: {reason}") from reason
    if len(plain) < ram_bytes and not stream.eof:
        raise CorruptError(f"{name} stream is cut off after {len(plain)} of {ram_bytes} bytes of data")
    return plain


def _decode_zlib(data: memoryview, ram_bytes: int, sectorsize: int) -> bytes:
    import zlib

    return _decode_stream("zlib", zlib.decompressobj(), zlib.error, data, ram_bytes)


def _encode_zlib(data: memoryview, level: int, sectorsize: int) -> bytes:
    import zlib

    return zlib.compress(data, level)


@cache
def zstd_module() -> ModuleType:
    """Return the module for zstd: of the standard library, where that has one."""
    if sys.version_info >= (3, 14):
        from compression import zstd
    else:
        from backports import zstd
    return zstd


def _decode_zstd(data: memoryview, ram_bytes: int, sectorsize: int) -> bytes:
    zstd = zstd_module()
    options = {zstd.DecompressionParameter.window_log_max: _WINDOW_LOG_MAX}
    return _decode_stream("zstd", zstd.ZstdDecompressor(options=options), zstd.ZstdError, data, ram_bytes)


class _ZstdEncoders(local):
    """The compressors of a thread, by level: to make one for every 20 KiB of data would take a quarter longer."""

    def __init__(self) -> None:
        self.by_level: dict[int, Any] = {}


_zstd_encoders = _ZstdEncoders()


def _encode_zstd(data: memoryview, level: int, sectorsize: int) -> bytes:
    encoder = _zstd_encoders.by_level.get(level)
    if encoder is None:
        encoder = _zstd_encoders.by_level[level] = zstd_module().ZstdCompressor(level=level)
    # libzstd never makes the window larger than the data, so it is within the kernel's 128 KiB.
    frame: bytes = encoder.compress(data, encoder.FLUSH_FRAME)
    return frame


def _lzo_worst(size: int) -> int:
    """Return the most bytes that *size* bytes can become (the kernel's ``lzo1x_worst_compress``)."""
    return size + size // 16 + 64 + 3 + 2


def _decode_lzo(data: memoryview, ram_bytes: int, sectorsize: int) -> bytes:
    from lzallright import LZOCompressor, LZOError

    total = _lzo_length(data, 0, len(data))
    if not _LENGTH.size <= total <= len(data) <= round_up(total, sectorsize):
        raise CorruptError(f"LZO total length is {total} in an extent of {len(data)} bytes")
    plain: list[bytes] = []
    missing, at = ram_bytes, _LENGTH.size
    while missing > 0 and at < total:
        padding = -at % sectorsize
        if 0 < padding < _LENGTH.size:
            at += padding  # look again whether this is the end: the total may count these zeros
            continue
        length = _lzo_length(data, at, total)
        start, at = at + _LENGTH.size, at + _LENGTH.size + length
        if length > _lzo_worst(sectorsize) or at > total:
            raise CorruptError(f"LZO segment of {length} bytes at {start} of {total}")
        try:
            plain.append(LZOCompressor.decompress(data[start:at], sectorsize))
        except LZOError as error:
            raise CorruptError(f"broken LZO segment at {start} of {total}: {error.args[0]}") from error
        if len(plain[-1]) > sectorsize:
            raise CorruptError(f"LZO segment at {start} holds {len(plain[-1])} bytes, more than a sector")
        missing -= len(plain[-1])
    return b"".join(plain)


def _lzo_length(data: memoryview, at: int, end: int) -> int:
    if at + _LENGTH.size > end:
        raise CorruptError(f"LZO extent ends at {end}, inside the length at {at}")
    length: int = _LENGTH.unpack_from(data, at)[0]
    return length


def _encode_lzo(data: memoryview, level: int, sectorsize: int) -> bytes:
    from lzallright import LZOCompressor

    encoder = LZOCompressor()
    framed = bytearray(_LENGTH.size)
    for at in range(0, len(data), sectorsize):
        segment = encoder.compress(data[at : at + sectorsize])
        framed += _LENGTH.pack(len(segment)) + segment
        padding = -len(framed) % sectorsize
        if padding < _LENGTH.size:
            framed += bytes(padding)
    _LENGTH.pack_into(framed, 0, len(framed))
    return bytes(framed)


_DECODERS: dict[int, Callable[[memoryview, int, int], bytes]] = {
    Compression.ZLIB: _decode_zlib,
    Compression.LZO: _decode_lzo,
    Compression.ZSTD: _decode_zstd,
}
_ENCODERS: dict[int, Callable[[memoryview, int, int], bytes]] = {
    Compression.ZLIB: _encode_zlib,
    Compression.LZO: _encode_lzo,
    Compression.ZSTD: _encode_zstd,
}
