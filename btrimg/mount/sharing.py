"""How files that share extents share memory: the kernel passes them through, a cache of ours does it, or nothing."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Protocol

from btrimg.mount.numbers import OTHERS
from btrimg.mount.wire import InitFlag, OpenFlag, OpenOut

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from btrimg.mount.content import Backings
    from btrimg.mount.reading import Reader
    from btrimg.mount.statistics import Use
    from btrimg.mount.tree import Files

_FH = struct.Struct("<Q")  #: with which a ReleaseIn begins; unpacked in full it takes four times as long

#: What every mount may do.
COMMON = (
    InitFlag.ASYNC_READ
    | InitFlag.ASYNC_DIO
    | InitFlag.BIG_WRITES
    | InitFlag.DO_READDIRPLUS
    | InitFlag.READDIRPLUS_AUTO
    | InitFlag.NO_OPEN_SUPPORT
    | InitFlag.NO_OPENDIR_SUPPORT
    | InitFlag.PARALLEL_DIROPS
    | InitFlag.MAX_PAGES
    | InitFlag.CACHE_SYMLINKS
    | InitFlag.DIRECT_IO_ALLOW_MMAP
    | InitFlag.INIT_EXT
)


class Sharing(Protocol):
    """A way of sharing, or none."""

    name: str  #: as ``--share`` has it
    sentence: str  #: what it does, for a person
    opens: bool  #: whether the kernel must ask before it reads a file

    def open(self, number: int, _body: bytes, _unique: int) -> bytes:
        """Answer OPEN: how the kernel is to treat the visible file *number*."""

    def release(self, number: int, body: bytes, _unique: int) -> bytes:
        """Answer RELEASE: what was opened is closed."""

    def in_memory(self) -> Iterable[Use]:
        """Yield what is in memory, and whose it is."""

    def read(self, number: int, fh: int, offset: int, size: int, check: Callable[[], None]) -> bytes | memoryview:
        """Return bytes of the file; *check* raises what is to end a long read."""


class NotShared:
    """Every file has pages of its own, as in the kernel's mount; no open is asked for."""

    name, opens = "none", False
    sentence = "files that share extents do not share memory"

    def __init__(self, files: Files, reader: Reader) -> None:
        self._files, self._reader = files, reader

    def open(self, _number: int, _body: bytes, _unique: int) -> bytes:
        """Return that the kernel may keep what it has read."""
        return OpenOut(0, OpenFlag.KEEP_CACHE, 0).pack()

    def release(self, _number: int, _body: bytes, _unique: int) -> bytes:
        """Do nothing."""
        return b""

    def in_memory(self) -> Iterable[Use]:
        """Return nothing: the kernel does not say whose pages it has."""
        return ()

    def read(self, number: int, _fh: int, offset: int, size: int, check: Callable[[], None]) -> memoryview:
        """Return bytes of the file."""
        return self._reader.read(self._files.data(number), offset, size, check)


class PassedThrough(NotShared):
    """Files of equal content pass through to one hidden file, whose pages the kernel has once."""

    name, opens = "passthrough", True
    sentence = "files that share extents share memory, read and mapped (FUSE passthrough)"

    def __init__(self, files: Files, reader: Reader, backings: Backings) -> None:
        super().__init__(files, reader)
        self._backings = backings

    def open(self, number: int, body: bytes, unique: int) -> bytes:
        """Return the id of the hidden file; the few that the hidden mount could not name have pages of their own."""
        return self._backings.open(number) if number < OTHERS else super().open(number, body, unique)

    def release(self, _number: int, body: bytes, _unique: int) -> bytes:
        """Take back the use of the hidden file."""
        fh = _FH.unpack_from(body)[0]
        if fh:
            self._backings.release(fh)
        return b""

    def in_memory(self) -> Iterable[Use]:
        """Yield what is shared."""
        return self._backings.in_memory()
