"""Recipes written: values as TOML, in the words of docs/recipes.md."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from btrimg.units import GIB, KIB, MIB

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from btrimg.ondisk.inodes import Timespec

_BARE = re.compile(r"[A-Za-z0-9_-]+")
_SHOWN = re.compile(r"[^\x20-\x7e\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]|\\")
_UNITS = ((GIB, "G"), (MIB, "M"), (KIB, "K"))


class Verbatim(str):
    """Text that is TOML already."""

    __slots__ = ()


def entry(values: Mapping[str, Any]) -> str:
    """Return an inline table of what is not None."""
    pairs = (f"{_key(key)} = {value(each)}" for key, each in values.items() if each is not None)
    return "{" + ", ".join(pairs) + "}"


def lines(entries: Iterable[str], indent: str = "    ") -> str:
    """Return an array with an entry on each line."""
    return "[\n" + "".join(f"{indent}{each},\n" for each in entries) + indent[4:] + "]"


def value(each: Any) -> str:
    """Return a value: bytes are a name or text, numbers stay numbers, a mapping is a table."""
    if isinstance(each, Verbatim):
        return each
    if isinstance(each, bool):
        return "true" if each else "false"
    if isinstance(each, int):
        return str(each)
    if isinstance(each, bytes):
        return text(each)
    if isinstance(each, str):
        return text(each.encode("utf-8", "surrogateescape"))
    if isinstance(each, dict):
        return entry(each)
    return "[" + ", ".join(map(value, each)) + "]"


def text(raw: bytes) -> str:
    r"""Return a string of a recipe: ``\\xNN`` for bytes that are no text, TOML's own escapes for line ends and tabs."""
    plain = _SHOWN.sub(_escape, raw.decode("utf-8", "surrogateescape"))
    if "'" not in plain and "\n" not in plain and "\t" not in plain:
        return f"'{plain}'"
    quoted = plain.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\t", "\\t")
    return f'"{quoted}"'


def _escape(found: re.Match[str]) -> str:
    character = found[0]
    if character in "\n\t":
        return character
    if character == "\\":
        return "\\\\"
    return "".join(f"\\x{byte:02x}" for byte in character.encode("utf-8", "surrogateescape"))


def _key(name: str | bytes) -> str:
    if isinstance(name, str) and _BARE.fullmatch(name):
        return name
    return value(name)


def size(count: int) -> int | Verbatim:
    """Return a number of bytes, with a unit where it is whole ones."""
    for unit, letter in _UNITS:
        if count and count % unit == 0:
            return Verbatim(f'"{count // unit}{letter}"')
    return count


def mode(bits: int) -> Verbatim:
    """Return permission bits."""
    return Verbatim(f"0o{bits:o}")


def time(stamp: Timespec) -> int | Verbatim:
    """Return a time: seconds, or a text with nine decimals."""
    if not stamp.nsec:
        return int(stamp.sec)
    total = stamp.sec * 10**9 + stamp.nsec
    sign = "-" if total < 0 else ""
    return Verbatim(f'"{sign}{abs(total) // 10**9}.{abs(total) % 10**9:09}"')
