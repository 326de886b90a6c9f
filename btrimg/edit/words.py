"""Words of verbs that say modes, owners and flags; each raises ValueError with a sentence."""

from __future__ import annotations

import re
import stat

from btrimg.build.readers import FLAGS, read_compression, read_mode, read_owner
from btrimg.named import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    Mode = Callable[[int], int]  # from an inode's mode to new permission bits
    Owner = tuple[int | None, int | None]

_CLAUSE = re.compile(r"([ugoa]*)((?:[-+=][rwxXst]*)+)")
_ACTION = re.compile(r"([-+=])([rwxXst]*)")
_WHOSE = {"u": 0o4700, "g": 0o2070, "o": 0o1007}
_BITS = {"r": 0o444, "w": 0o222, "x": 0o111, "s": 0o6000, "t": 0o1000}
_LETTERS = {
    "a": "append",
    "i": "immutable",
    "d": "nodump",
    "A": "noatime",
    "S": "sync",
    "D": "dirsync",
    "c": "compress",
    "m": "nocompress",
    "C": "nodatacow",
}
_TRUTH = {"true": True, "false": False}


class Flags(NamedTuple):
    """What is to change of flags and properties."""

    add: int = 0  #: InodeFlag
    remove: int = 0
    compression: bytes | None = None  #: empty for what is usual
    readonly: bool | None = None


def parse_mode(text: str) -> Mode:
    """Return what makes new permissions of a mode: octal digits, or clauses as of chmod(1)."""
    if re.fullmatch(r"(0o)?[0-7]+", text):
        fixed = read_mode(text)
        return lambda _: fixed
    clauses = [_CLAUSE.fullmatch(clause) for clause in text.split(",")]
    if not all(clauses):
        raise ValueError(f"{text!a} is no mode: write octal digits, or u=rwx,g+s,o-w")

    def change(mode: int) -> int:
        for clause in clauses:
            if clause:
                for sign, letters in _ACTION.findall(clause[2]):
                    mode = _changed(mode, clause[1], sign, letters)
        return mode & 0o7777

    return change


def _changed(mode: int, whose: str, sign: str, letters: str) -> int:
    mask = 0
    for who in "ugo" if not whose or "a" in whose else whose:
        mask |= _WHOSE[who]
    bits = 0
    for letter in letters:
        if letter != "X":
            bits |= _BITS[letter]
        elif stat.S_ISDIR(mode) or mode & 0o111:
            bits |= 0o111
    bits &= mask
    if sign == "=":
        return mode & ~mask | bits
    return mode | bits if sign == "+" else mode & ~bits


def parse_owner(text: str) -> Owner:
    """Return uid and gid of ``UID:GID``, ``UID`` or ``:GID``; None for the one that stays."""
    uid, colon, gid = text.partition(":")
    if not uid and not gid:
        raise ValueError(f"{text!a} is no owner: write UID:GID, UID or :GID, in numbers")
    pair = read_owner(f"{uid or gid}:{gid or uid}")
    return pair[0] if uid else None, pair[1] if colon and gid else None


def parse_flags(text: str) -> Flags:
    """Return what ``+FLAG,-FLAG,PROPERTY=VALUE`` says."""
    flags = Flags()
    for change in text.split(","):
        name, equals, value = change.partition("=")
        if equals and name == "compression":
            if value:
                read_compression(value)
            flags = flags._replace(compression=value.encode())
        elif equals and name == "readonly" and value in _TRUTH:
            flags = flags._replace(readonly=_TRUTH[value])
        elif not equals and change[:1] in ("+", "-") and change[1:]:
            bits = _bits(change[1:])
            field = "add" if change[0] == "+" else "remove"
            flags = flags._replace(**{field: getattr(flags, field) | bits})
        else:
            raise ValueError(f"{change!a} is no change: write +FLAG, -FLAG, compression=ALGO or readonly=true")
    if flags.add & flags.remove:
        raise ValueError(f"{text!a} both sets and takes away a flag")
    return flags


def _bits(name: str) -> int:
    if name in FLAGS:
        return int(FLAGS[name])
    if all(letter in _LETTERS for letter in name):
        bits = 0
        for letter in name:
            bits |= FLAGS[_LETTERS[letter]]
        return int(bits)
    raise ValueError(f"{name!a} is no flag: there are {', '.join(FLAGS)}")
