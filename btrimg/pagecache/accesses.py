"""Accesses to files, as columns: what every format of trace becomes, and what was left out, by reason."""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, Protocol

import numpy as np

from btrimg.errors import TraceError
from btrimg.named import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

    from btrimg.pagecache.pages import Codes, Ints

READ, FAULT, FILL, WRITE = range(4)
#: What an access was. A fill is a page that the kernel brought in: it was read, mapped, or only read ahead of a reader.
KINDS = ("read", "fault", "fill", "write")

NS = 1_000_000_000  #: nanoseconds in a second
MOST_FILES = 1 << 22  #: names in one trace
_BEYOND = 1 << 62  # no time, offset or end of an access is as large


class InodeName(NamedTuple):
    """A file that a trace knows by number."""

    space: int  #: what the number counts in: a device as major << 20 | minor, or a subvolume's id
    inode: int
    is_device: bool  #: whether *space* is a device


Name = bytes | InodeName


class Accesses(NamedTuple):
    """Columns, one row per access, in order of the trace."""

    time: Ints  #: nanoseconds, of whatever clock
    process: Ints  #: who read; 0 where the trace does not say
    file: Ints  #: index into the names of the trace
    offset: Ints  #: bytes
    length: Ints  #: bytes
    kind: Codes  #: index into KINDS


class Skipped(NamedTuple):
    """Lines, or accesses, that were left out for one reason."""

    lines: int
    line: int  #: the first one, from 1


class Collector:
    """Takes what the parser of a format finds, and gives it out as columns."""

    def __init__(self, directory: bytes | None = None) -> None:
        self.directory = directory  #: absolute, from which relative paths go; None if it is not known
        self.names: list[Name] = []
        self.skipped: dict[str, Skipped] = {}
        self.line = 0  #: that is being parsed, from 1
        self._numbers: dict[Name, int] = {}
        self._clear()

    def _clear(self) -> None:
        self._time, self._process, self._file = array("q"), array("q"), array("q")
        self._offset, self._length, self._kind = array("q"), array("q"), bytearray()

    def __len__(self) -> int:
        return len(self._kind)

    def access(self, kind: int, name: Name, offset: int, length: int, *, time: int = 0, process: int = 0) -> None:
        """Note an access of *length* bytes at *offset*."""
        if not (-1 < offset < _BEYOND and -1 < length < _BEYOND - offset and -1 < time < _BEYOND > process > -1):
            self.skip("a number out of range")
            return
        number = self._numbers.get(name)
        if number is None:
            if len(self.names) == MOST_FILES:
                raise TraceError(f"line {self.line}: more than {MOST_FILES} files")
            number = self._numbers[name] = len(self.names)
            self.names.append(name)
        self._time.append(time)
        self._process.append(process)
        self._file.append(number)
        self._offset.append(offset)
        self._length.append(length)
        self._kind.append(kind)

    def absolute(self, path: bytes) -> bytes:
        """Return *path* from the root, as far as that is known."""
        return path if path.startswith(b"/") or self.directory is None else self.directory + b"/" + path

    def skip(self, reason: str) -> None:
        """Count the present line among those that are left out for *reason*, one of a few sentences."""
        before = self.skipped.get(reason)
        self.skipped[reason] = Skipped(before.lines + 1, before.line) if before else Skipped(1, self.line)

    def take(self) -> Accesses:
        """Return what was collected since the last time."""
        columns = (self._time, self._process, self._file, self._offset, self._length)
        time, process, file, offset, length = (np.frombuffer(column, np.int64) for column in columns)
        taken = Accesses(time, process, file, offset, length, np.frombuffer(self._kind, np.uint8))
        self._clear()
        return taken


class Parser(Protocol):
    """What reads one format."""

    def line(self, text: bytes) -> None:
        """Take in one line, without its end."""


class Format(NamedTuple):
    """One format of traces."""

    name: str
    recognises: Callable[[bytes], bool]  #: whether a line is one of the first ones of such a trace
    parser: Callable[[Collector], Parser]
