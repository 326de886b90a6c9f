"""Traces as CSV: a first line that names the columns, then an access a line.

``path``, or ``inode`` and perhaps ``subvolume`` (5 if it is left out), say which file; ``offset`` and ``length`` are
bytes. ``time`` (in seconds), ``process`` and ``kind`` (read, fault, fill or write) may be there; other columns are not
looked at. A quoted value may hold commas, but no line ends.
"""

from __future__ import annotations

import codecs
import csv
from typing import TYPE_CHECKING

from btrimg.pagecache.accesses import KINDS, NS, InodeName

if TYPE_CHECKING:
    from btrimg.pagecache.accesses import Collector, Name

_TOP_LEVEL = 5
_KNOWN = ("path", "inode", "subvolume", "offset", "length", "time", "process", "kind")


def recognises(line: bytes) -> bool:
    """Return whether *line* names the columns that there must be."""
    return bool(_columns(line))


def _columns(line: bytes) -> list[str]:
    """Return the names of columns that *line* gives; none if it lacks those that there must be, or has some twice."""
    names = [value.strip() for value in _values(line.removeprefix(codecs.BOM_UTF8))]
    enough = {"offset", "length"} <= {*names} and bool({"path", "inode"} & {*names})
    return names if enough and not any(names.count(name) > 1 for name in _KNOWN) else []


def _values(line: bytes) -> list[str]:
    """Return what stands between the commas, nothing if it cannot be told."""
    try:
        return next(csv.reader([line.decode("utf-8", "surrogateescape")], strict=True, skipinitialspace=True), [])
    except csv.Error:
        return []


class Parser:
    """See :class:`~btrimg.pagecache.accesses.Parser`."""

    def __init__(self, collector: Collector) -> None:
        self._collector = collector
        self._columns: list[str] = []

    def line(self, text: bytes) -> None:
        """Take in one line."""
        if not self._columns:
            self._columns = _columns(text)
            return
        values = _values(text)
        row = dict(zip(self._columns, values, strict=False))
        try:
            if len(values) != len(self._columns):
                raise ValueError
            seconds, _, fraction = (row.get("time") or "0").partition(".")
            self._collector.access(
                KINDS.index(row.get("kind") or KINDS[0]),
                self._name_of(row),
                int(row["offset"], 0),
                int(row["length"], 0),
                time=int(seconds) * NS + int(fraction[:9].ljust(9, "0")),
                process=int(row.get("process") or "0"),
            )
        except ValueError:
            self._collector.skip("not a row of the columns named in the first line")

    def _name_of(self, row: dict[str, str]) -> Name:
        """Return which file a row is about; raise ValueError if it does not say."""
        if path := row.get("path"):
            return self._collector.absolute(path.encode("utf-8", "surrogateescape"))
        return InodeName(int(row.get("subvolume") or _TOP_LEVEL), int(row.get("inode") or ""), is_device=False)
