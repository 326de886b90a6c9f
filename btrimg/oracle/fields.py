"""What ``btrfs inspect-internal`` prints, taken apart into values.

A line is a field: the tuple of its words, in which a name or the value of an xattr is one word, as bytes.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING

from btrimg.named import NamedTuple
from btrimg.oracle.known import known_differences

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from btrimg.oracle.known import Field, Known
    from btrimg.oracle.progs import Version

_NAMES_ESCAPED_SINCE = (6, 10)  # but those of subvolumes, which are raw in every version


class Line(NamedTuple):
    """A line of a tool, read."""

    field: Field  #: as both sides should have it
    raw: Field  #: as it stands
    reasons: tuple[str, ...]  #: the known differences that make one of the other


class Reading:
    """Reads lines of one tool, ours and theirs, as fields that only differ where nobody knows why."""

    def __init__(self, tool: str, version: Version, *further: Known) -> None:
        self._known = (*known_differences(tool, version), *further)
        self._raw_names = version < _NAMES_ESCAPED_SINCE
        self._dropped: tuple[Counter[str], Counter[str]] = Counter(), Counter()
        self._allowed: Counter[str] = Counter()

    @property
    def allowed(self) -> Counter[str]:
        """Return how many lines differ for each known reason: those allowed for, and those that one side lacks."""
        return self._allowed + (self._dropped[0] | self._dropped[1])

    def allow(self, ours: Line, theirs: Line) -> None:
        """Count what is known of two lines with one field."""
        if ours.raw != theirs.raw:
            self._allowed.update({*ours.reasons, *theirs.reasons})

    def theirs(self, lines: Iterable[str]) -> Iterator[Line]:
        """Yield lines of btrfs-progs, without those that are known to be wrong."""
        return self._agreed(lines, 0, as_it_is if self._raw_names else unescape, as_it_is)

    def ours(self, lines: Iterable[str]) -> Iterator[Line]:
        """Yield our lines, without those that this version of btrfs-progs lacks."""
        return self._agreed(lines, 1, unescape, unescape)

    def _agreed(
        self,
        lines: Iterable[str],
        side: int,
        read_name: Callable[[str], bytes],
        read_subvolume_name: Callable[[str], bytes],
    ) -> Iterator[Line]:
        changes = [(known.reason, (known.theirs, known.ours)[side]) for known in self._known]
        for line in lines:
            raw = field = _field(line, read_name, read_subvolume_name)
            reasons: tuple[str, ...] = ()
            for reason, change in changes:
                agreed = change(field) if field else field
                if agreed != field:
                    reasons, field = (*reasons, reason), agreed
            if field:
                yield Line(field, raw, reasons)
            else:
                self._dropped[side].update(reasons)


_NAME = re.compile(r"(?s)(\t\t(?:index .* )?name: |\t\troot (?:back)?ref key .* name |\t\tdata (?!backref))(.*)")


def _field(line: str, read_name: Callable[[str], bytes], read_subvolume_name: Callable[[str], bytes]) -> Field:
    named = _NAME.fullmatch(line) if line.startswith("\t\t") else None
    if not named:
        return tuple(line.split())
    read = read_subvolume_name if named[1].startswith("\t\troot ") else read_name
    return (*named[1].split(), read(named[2]))


# A line begins anew with one of these; whatever else follows a name belongs to it.
_NEW = re.compile(r"\t|(leaf|node) \d|(fs|chunk) uuid |[a-z ]+ tree( key \(|$)|(total bytes|bytes used|uuid) |btrfs")


def lines_of(text: str) -> Iterator[str]:
    """Yield the lines of a text of btrfs-progs, those that a raw name broke put together again."""
    whole = ""
    for line in text.removesuffix("\n").split("\n"):
        if whole and not _NEW.match(line) and _NAME.match(whole):
            whole += "\n" + line
        else:
            if whole:
                yield whole
            whole = line
    yield whole


def as_it_is(name: str) -> bytes:
    """Return the bytes of a raw name."""
    return name.encode("latin-1")


_ESCAPE = re.compile(r"\\([0-3][0-7]{2}|.)")
_SHORT = {"a": 7, "b": 8, "t": 9, "n": 10, "v": 11, "f": 12, "r": 13, "e": 27}


def unescape(name: str) -> bytes:
    """Return the bytes of an escaped name."""

    def byte(found: re.Match[str]) -> str:
        code = found[1]
        return chr(int(code, 8) if len(code) == 3 else _SHORT.get(code) or ord(code))

    return _ESCAPE.sub(byte, name).encode("latin-1")
