"""What btrfs-progs prints, taken apart into values; and where we know it to be wrong or silent."""

from __future__ import annotations

import os
import re
import subprocess
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

Version = tuple[int, ...]
Field = tuple[object, ...]  # the words of a line; a name or an xattr's value is one word, as bytes


class Difference(NamedTuple):
    """One known difference: *theirs* and *ours* bring a line of either side to what both agree on."""

    reason: str
    applies: Callable[[Version], bool]
    theirs: Callable[[Field], Field]
    ours: Callable[[Field], Field]


def _same(field: Field) -> Field:
    return field


def _without_key_offset(field: Field) -> Field:
    """Drop the ``(TYPE 0xOFFSET)`` before an inline reference."""
    return field[2:] if re.fullmatch(r"\(\d+", str(field[0])) else field


def _owner_ref(field: Field) -> Field:
    return tuple("extent" if word == "textent" else word for word in field)


def _without_names_of_root_flags(field: Field) -> Field:
    if field[0] != "last_snapshot":
        return field
    return tuple(word.partition("(")[0] if isinstance(word, str) else word for word in field)


def _value_cut(field: Field) -> Field:
    return ("data", bytes(field[1])[:255]) if field[0] == "data" and isinstance(field[1], bytes) else field


def _value_cut_at_nul(field: Field) -> Field:
    cut = _value_cut(field)
    return ("data", cut[1].partition(b"\0")[0]) if cut[0] == "data" and isinstance(cut[1], bytes) else cut


def _blake2(field: Field) -> Field:
    return tuple("(blake2)" if word == "(blake2b)" else word for word in field)


def _drop(*starts: str) -> Callable[[Field], Field]:
    def drop(field: Field) -> Field:
        return () if " ".join(map(str, field)).startswith(starts) else field

    return drop


def _always(_version: Version) -> bool:
    return True


def _before(*version: int) -> Callable[[Version], bool]:
    return lambda running: running < version


KNOWN_DIFFERENCES = (
    Difference("xattr values end after 255 bytes", _always, _same, _value_cut),
    Difference("xattr values, not being escaped, end at a NUL too", _before(6, 10), _same, _value_cut_at_nul),
    Difference("inline references come without their key", _before(6, 6), _same, _without_key_offset),
    Difference("owner references are misspelt", _always, _owner_ref, _same),
    Difference("flags of dead subvolumes have no name", _always, *[_without_names_of_root_flags] * 2),
    Difference("a replacement's stop time is its start time", _always, *[_drop("stop time")] * 2),
    Difference("blake2b is called blake2", _before(6, 3, 1), _same, _blake2),
    Difference(
        "device replacements have no body", _before(6, 9), _same, _drop("src devid", "state", "start time", "stop time")
    ),
    Difference("metadata_uuid is fsid where there is none", _before(6, 5), *[_drop("metadata_uuid")] * 2),
)


def run_progs(*arguments: str) -> str:
    """Return what ``btrfs`` prints, in UTC, each byte a character."""
    environment = {**os.environ, "TZ": "UTC", "LC_ALL": "C"}
    done = subprocess.run(["btrfs", *arguments], capture_output=True, check=True, env=environment)
    return done.stdout.decode("latin-1")


def progs_version() -> Version:
    """Return the version of ``btrfs``."""
    found = re.search(r"v(\d+(?:\.\d+)*)", run_progs("version"))
    assert found
    return tuple(int(part) for part in found[1].split("."))


def their_fields(text: str) -> Iterator[Field]:
    """Yield the lines of btrfs-progs as values, without those that we know to be wrong.

    Names of subvolumes are raw in every version, other names until 6.10.
    """
    version = progs_version()
    sides = [difference.theirs for difference in KNOWN_DIFFERENCES if difference.applies(version)]
    return _agreed(_lines(text), sides, as_it_is if version < (6, 10) else unescape, as_it_is)


def our_fields(lines: Iterable[str]) -> Iterator[Field]:
    """Yield our lines as values, without those that this version of btrfs-progs lacks."""
    version = progs_version()
    sides = [difference.ours for difference in KNOWN_DIFFERENCES if difference.applies(version)]
    return _agreed(lines, sides, unescape, unescape)


def _agreed(
    lines: Iterable[str],
    sides: Sequence[Callable[[Field], Field]],
    read_name: Callable[[str], bytes],
    read_subvolume_name: Callable[[str], bytes],
) -> Iterator[Field]:
    for line in lines:
        field = _field(line, read_name, read_subvolume_name)
        for side in sides:
            if field:
                field = side(field)
        if field:
            yield field


_NAME = re.compile(r"(?s)(\t\t(?:index .* )?name: |\t\troot (?:back)?ref key .* name |\t\tdata (?!backref))(.*)")


def _field(line: str, read_name: Callable[[str], bytes], read_subvolume_name: Callable[[str], bytes]) -> Field:
    named = _NAME.fullmatch(line)
    if not named:
        return tuple(line.split())
    read = read_subvolume_name if named[1].startswith("\t\troot ") else read_name
    return (*named[1].split(), read(named[2]))


# A line begins anew with one of these; whatever else follows a name belongs to it.
_NEW = re.compile(r"\t|(leaf|node) \d|(fs|chunk) uuid |[a-z ]+ tree( key \(|$)|(total bytes|bytes used|uuid) |btrfs")


def _lines(text: str) -> Iterator[str]:
    """Yield the lines, those that a raw name broke put together again."""
    whole = ""
    for line in text.removesuffix("\n").split("\n"):
        if whole and _NAME.match(whole) and not _NEW.match(line):
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
