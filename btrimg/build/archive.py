"""The bytes of an archive, decompressed as they are read: from a file or a pipe, never going back."""

from __future__ import annotations

import io
import zlib
from typing import TYPE_CHECKING, Any, BinaryIO

from btrimg.errors import BtrimgError
from btrimg.named import NamedTuple
from btrimg.ondisk.compression import zstd_module
from btrimg.units import MIB

if TYPE_CHECKING:
    from collections.abc import Callable

    from typing_extensions import Buffer

    Opened = tuple[Any, tuple[type[Exception], ...]]  # a file, and what it raises for a broken stream

_STEP = MIB  # bytes that are read ahead, or skipped at once


class _Rest(io.RawIOBase):
    """A stream of which the first bytes have been read."""

    def __init__(self, head: bytes, stream: BinaryIO) -> None:
        self._head, self._stream = head, stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Buffer, /) -> int:
        view = memoryview(buffer)
        head = self._head[: len(view)] or self._stream.read(len(view)) or b""
        self._head = self._head[len(head) :]
        view[: len(head)] = head
        return len(head)


def _gzip(stream: BinaryIO) -> Opened:
    from gzip import BadGzipFile, GzipFile

    return GzipFile(fileobj=stream), (BadGzipFile, zlib.error)


def _bzip2(stream: BinaryIO) -> Opened:
    from bz2 import BZ2File

    return BZ2File(stream), (ValueError,)


def _xz(stream: BinaryIO) -> Opened:
    from lzma import LZMAError, LZMAFile

    return LZMAFile(stream), (LZMAError,)


def _zstd(stream: BinaryIO) -> Opened:
    zstd = zstd_module()
    return zstd.ZstdFile(stream), (zstd.ZstdError,)


class _Format(NamedTuple):
    """A compression that archives come in."""

    name: str
    magic: bytes
    reader: Callable[[BinaryIO], Opened] | None = None  #: None where only another program can unpack it


_FORMATS = (
    _Format("gzip", b"\x1f\x8b", _gzip),
    _Format("zstd", b"\x28\xb5\x2f\xfd", _zstd),
    _Format("xz", b"\xfd7zXZ\0", _xz),
    _Format("bzip2", b"BZh", _bzip2),
    _Format("lz4", b"\x04\x22\x4d\x18"),
    _Format("compress", b"\x1f\x9d"),
    _Format("lzip", b"LZIP"),
)
_HEAD = max(len(known.magic) for known in _FORMATS)


class Archive:
    """The bytes of *stream*, in order; *name* is for messages.

    All methods raise BtrimgError when the stream cannot be read or is broken.
    """

    def __init__(self, stream: BinaryIO, name: str) -> None:
        self.name, self.position = name, 0  #: how many bytes, decompressed, have been read
        self._errors: tuple[type[Exception], ...] = (OSError, EOFError)
        try:
            head = stream.read(_HEAD)
        except OSError as error:
            raise self._broken(error) from None
        plain = io.BufferedReader(_Rest(head, stream), _STEP)
        self._stream: BinaryIO = plain
        for known in _FORMATS:
            if head.startswith(known.magic):
                if known.reader is None:
                    raise BtrimgError(f"{name} is compressed by {known.name}; unpack it, and pipe it in (FILE is -)")
                unpacked, more = known.reader(plain)
                self._stream, self._errors = io.BufferedReader(unpacked, _STEP), (*more, OSError, EOFError)

    def read(self, length: int) -> bytes:
        """Return the next *length* bytes, fewer at the end of the stream only."""
        try:
            data = self._stream.read(length)
        except self._errors as error:
            raise self._broken(error) from None
        self.position += len(data)
        return data

    def exactly(self, length: int, what: str) -> bytes:
        """Return the next *length* bytes, of *what*, which must be there."""
        data = self.read(length)
        if len(data) < length:
            raise BtrimgError(f"{self.name} ends at byte {self.position}, inside {what}")
        return data

    def skip(self, length: int, what: str) -> None:
        """Leave out the next *length* bytes, of *what*, which must be there."""
        for done in range(0, length, _STEP):
            self.exactly(min(_STEP, length - done), what)

    def _broken(self, error: Exception) -> BtrimgError:
        if isinstance(error, EOFError):
            return BtrimgError(f"{self.name} is cut off: its compressed stream has no end")
        return BtrimgError(f"cannot read {self.name}: {getattr(error, 'strerror', None) or error}")
