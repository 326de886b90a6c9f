"""Traces of file accesses, read line by line: fio's iologs, strace's text, tracepoints of the page cache, CSV.

Lines that are not understood are counted by reason, with the first one's number; only a trace whose very format is not
known raises TraceError. No more is held than a batch of accesses, and the names of the files that occur.
"""

from __future__ import annotations

from itertools import chain, islice
from typing import TYPE_CHECKING

from btrimg.errors import TraceError
from btrimg.pagecache import iolog, strace, tracecsv, tracepoints
from btrimg.pagecache.accesses import Collector, Format

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

    from btrimg.pagecache.accesses import Accesses, Name, Skipped

_LONGEST_LINE = 1 << 16  # bytes; strace cuts strings at 32 characters, paths are at most 4096
_LOOK_AT = 200  # lines in which the format must show
_BATCH = 1 << 16  # accesses

FORMATS = (
    Format("fio iolog", iolog.recognises, iolog.Parser),
    Format("tracepoints", tracepoints.recognises, tracepoints.Parser),
    Format("strace", strace.recognises, strace.Parser),
    Format("CSV", tracecsv.recognises, tracecsv.Parser),
)


class Trace:
    """A trace that can be read once: iterate over it, then look at its names and at what was skipped.

    Relative paths are those from *directory*, the working directory of the first process, absolute.
    """

    def __init__(self, stream: BinaryIO, directory: bytes | None = None) -> None:
        self._lines = _lines(stream)
        self._collector = Collector(directory)
        self.format = ""  #: its name, once reading has begun

    @property
    def names(self) -> list[Name]:
        """Return the files that occurred so far, by number."""
        return self._collector.names

    @property
    def skipped(self) -> dict[str, Skipped]:
        """Return by reason what was left out so far."""
        return self._collector.skipped

    def __iter__(self) -> Iterator[Accesses]:
        """Yield batches of accesses; raise TraceError if this is no trace that we know."""
        collector = self._collector
        early = list(islice(self._lines, _LOOK_AT))
        known = _format_of(early)
        self.format = known.name
        parser = known.parser(collector)
        for number, line in enumerate(chain(early, self._lines), 1):
            collector.line = number
            if line is None:
                collector.skip("a line of more than 64 KiB")
            elif line:
                parser.line(line)
            if len(collector) >= _BATCH:
                yield collector.take()
        if len(collector):
            yield collector.take()


def _format_of(early: list[bytes | None]) -> Format:
    """Return the format that the first of *early* lines shows that shows any."""
    for line in early:
        for known in FORMATS:
            if line and known.recognises(line):
                return known
    raise TraceError(
        "this is no trace of a known format: an iolog of fio begins with 'fio version 2 iolog' (or 3), CSV with names"
        " of columns (path, offset, length); the text of strace -f and of tracepoints mm_filemap_… is known, too"
    )


def _lines(stream: BinaryIO) -> Iterator[bytes | None]:
    """Yield lines without their ends, None for one that is too long; never hold more than a line."""
    while line := stream.readline(_LONGEST_LINE):
        if len(line) < _LONGEST_LINE or line.endswith(b"\n"):
            yield line.rstrip(b"\r\n")
            continue
        while (rest := stream.readline(_LONGEST_LINE)) and not rest.endswith(b"\n"):
            pass
        yield None
