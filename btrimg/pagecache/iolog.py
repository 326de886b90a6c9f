"""fio's iologs, versions 2 and 3: what ``--write_iolog`` writes and ``--read_iolog`` replays.

A line is ``NAME ACTION`` or ``NAME ACTION OFFSET LENGTH``; in version 3 a time stands in front (fio's HOWTO, "Trace
file format v2" and "v3"), in microseconds, as what fio 3.33 writes of a job whose length is known shows. fio appends,
so that a head may come again. Its own names have no blanks, but those of who writes iologs by hand may.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from btrimg.pagecache.accesses import READ, WRITE

if TYPE_CHECKING:
    from btrimg.pagecache.accesses import Collector

_HEADS = {b"fio version 2 iolog": 2, b"fio version 3 iolog": 3}
_OF_FILES = {b"add", b"open", b"close"}
_KINDS = {b"read": READ, b"write": WRITE}
_OTHER = {b"trim", b"sync", b"datasync", b"sync_file_range", b"wait"}
_MICROSECOND = 1_000  # ns


def recognises(line: bytes) -> bool:
    """Return whether *line* begins an iolog."""
    return line.strip() in _HEADS


class Parser:
    """See :class:`~btrimg.pagecache.accesses.Parser`."""

    def __init__(self, collector: Collector) -> None:
        self._collector = collector
        self._version = 2
        self._waited = 0  # ns, in version 2

    def line(self, text: bytes) -> None:
        """Take in one line."""
        try:
            self._action(text)
        except (ValueError, IndexError):
            if version := _HEADS.get(text.strip()):
                self._version = version
            else:
                self._collector.skip("not a line of an iolog")

    def _action(self, text: bytes) -> None:
        """Take in a line; raise ValueError if it is none."""
        time = self._waited
        if self._version == 3:
            stamp, text = text.split(None, 1)
            time = int(stamp) * _MICROSECOND
        words = text.rsplit(None, 3)
        if words[-1] in _OF_FILES and len(words) > 1:
            return
        name, action, first, second = words
        kind = _KINDS.get(action)
        if kind is not None:
            path = self._collector.absolute(name.lstrip())
            self._collector.access(kind, path, int(first), int(second), time=time)
        elif action == b"wait":
            self._waited += int(first) * _MICROSECOND
        elif action not in _OTHER:
            raise ValueError
