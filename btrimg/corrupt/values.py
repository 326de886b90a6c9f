"""Values of edits: numbers and bytes, names of constants, references to what stands in the image."""

from __future__ import annotations

import operator
import os
import re
from typing import TYPE_CHECKING

from btrimg.corrupt.words import parse_reference, split_outside
from btrimg.enums import IntEnum, IntFlag
from btrimg.errors import BtrimgError
from btrimg.ondisk import constants
from btrimg.ondisk.blocks import KEY_MAX, Key
from btrimg.ondisk.csum import extent_data_ref_hash, extref_hash, name_hash
from btrimg.ondisk.keynames import item_type, number, objectid
from btrimg.units import parse_size

if TYPE_CHECKING:
    from collections.abc import Callable

    from btrimg.corrupt.words import Marks, Target

    Read = Callable[[Target, Marks], int | bytes]

_TOKEN = re.compile(r"\s*(?:(?P<braces>\{)|(?P<operator>[-+*|&^])|(?P<word>[\w.]+))")
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_HEX = re.compile(r"0x((?:[0-9a-fA-F]{2})*)(?:\*(\d+))?")
_ESCAPE = re.compile(rb"\\x([0-9a-fA-F]{2})|\\(\\)")
_MOST_BYTES = 1 << 20
_OPERATORS: dict[str, Callable[[int, int], int]] = {
    "": lambda _old, value: value,
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "|": operator.or_,
    "&": operator.and_,
    "^": operator.xor,
}


def _enum_value(text: str) -> int | None:
    enum, _, name = text.partition(".")
    kind = getattr(constants, enum, None)
    if isinstance(kind, type) and issubclass(kind, IntEnum | IntFlag) and name in kind.__members__:
        return int(kind[name])
    return None


def combine(sign: str, old: int, value: int) -> int:
    """Return what *sign* (one of ``+ - * | & ^``, or empty for *value* itself) makes of two numbers."""
    return _OPERATORS[sign](old, value)


class Values:
    """Evaluates values; *read* gives what a reference leads to."""

    def __init__(self, read: Read) -> None:
        self._read = read

    def _reference(self, text: str, start: int) -> tuple[int | bytes, int]:
        """Return what the braces that open at *start* refer to, and where they end."""
        depth = 0
        for at in range(start, len(text)):
            depth += {"{": 1, "}": -1}.get(text[at], 0)
            if not depth:
                return self._read(*parse_reference(text[start + 1 : at])), at + 1
        raise ValueError(f"{text!a}: braces do not match")

    def number(self, text: str, name: Callable[[str], int] = number) -> int:
        """Return the number that *text* means: terms joined by ``+ - * | & ^``, taken from left to right.

        A term is a number (1, 0x10, 0o17, 4K), Enum.NAME, a reference in braces, or what *name* knows.
        """
        total, sign, at = 0, "", 0
        expects_term = True
        while at < len(text):
            found = _TOKEN.match(text, at)
            if found is None:
                raise ValueError(f"{text!a} is no number")
            at = found.end()
            if found["operator"] and not expects_term:
                sign, expects_term = found["operator"], True
                continue
            if found["operator"] == "-":  # of a negative number
                rest = _TOKEN.match(text, at)
                if rest is None or not rest["word"]:
                    raise ValueError(f"{text!a} is no number")
                at, value = rest.end(), -self._term(rest["word"], name)
            elif found["braces"]:
                value, at = self._number_at(text, at - 1)
            elif found["word"] and expects_term:
                value = self._term(found["word"], name)
            else:
                raise ValueError(f"{text!a} is no number")
            total, expects_term = combine(sign, total, value), False
        if expects_term:
            raise ValueError(f"{text!a} is no number")
        return total

    def _number_at(self, text: str, start: int) -> tuple[int, int]:
        value, end = self._reference(text, start)
        if isinstance(value, bytes):
            raise ValueError(f"{text[start:end]} holds bytes, a number is needed")
        return value, end

    def _term(self, word: str, name: Callable[[str], int]) -> int:
        known = _enum_value(word)
        if known is not None:
            return known
        try:
            return parse_size(word)
        except ValueError:
            return name(word)

    def data(self, text: str, size: int | None) -> bytes:
        """Return the bytes that *text* means; *size* is how many the place has, None where it can grow.

        ``0x…`` is hexadecimal, ``0x00*512`` repeats, a reference in braces gives what it leads to, a uuid is one where
        16 bytes stand; all else is text, with ``\\xNN`` and ``\\\\`` in it.
        """
        if text.startswith("{"):
            value, end = self._reference(text, 0)
            if end == len(text) and isinstance(value, bytes):
                return value
            raise ValueError(f"{text!a}: bytes come from one reference to bytes")
        if hexadecimal := _HEX.fullmatch(text):
            repeat = int(hexadecimal[2] or 1)
            once = bytes.fromhex(hexadecimal[1])
            if len(once) * repeat > _MOST_BYTES:
                raise ValueError(f"{text!a}: more than {_MOST_BYTES} bytes in one edit")
            return once * repeat
        if text.startswith("0x"):
            raise ValueError(f"{text!a} has no even number of hexadecimal digits")
        if size == 16 and _UUID.fullmatch(text):
            return bytes.fromhex(text.replace("-", ""))
        return _ESCAPE.sub(lambda found: found[2] or bytes.fromhex(found[1].decode()), os.fsencode(text))

    def key(self, text: str) -> Key:
        """Return a key; raise ValueError where a part is left open."""
        parts, index = self.key_parts(text)
        if None in parts or index is not None:
            raise ValueError(f"{text!a} is no whole key; write OBJECTID.TYPE.OFFSET")
        return Key(*(part for part in parts if part is not None))

    def key_parts(self, text: str) -> tuple[tuple[int | None, int | None, int | None], int | None]:
        """Return the parts of OBJECTID.TYPE.OFFSET[n], None for each that is ``*`` or left out, and n."""
        index = re.search(r"\[(-?\d+)\]$", text)
        words = split_outside(text[: index.start()] if index else text, ".", 2)
        names: tuple[Callable[[str], int], ...] = (objectid, item_type, number)
        parts: list[int | None] = [None, None, None]
        for position, (word, name) in enumerate(zip(words, names, strict=False)):
            if word != "*":
                is_hash = position == 2 and len(split_outside(word, ":")) > 1
                parts[position] = self._hash(word) if is_hash else self.number(word, name) % (1 << 64)
        if (parts[1] or 0) > KEY_MAX.type:
            raise ValueError(f"{text!a}: {parts[1]} does not fit the 8 bits of a key type")
        return (parts[0], parts[1], parts[2]), int(index[1]) if index else None

    def _hash(self, word: str) -> int:
        """Return the hash that a key's offset holds: hash:NAME, exthash:PARENT:NAME, refhash:ROOT:INO:OFFSET."""
        kind, *arguments = split_outside(word, ":")
        try:
            if kind == "hash":
                return name_hash(self.data(word[len("hash:") :], None))
            if kind == "exthash":
                parent, name = arguments
                return extref_hash(self.number(parent), self.data(name, None))
            if kind == "refhash":
                root, ino, offset = (self.number(argument, objectid) for argument in arguments)
                return extent_data_ref_hash(root % (1 << 64), ino % (1 << 64), offset)
        except (TypeError, BtrimgError) as error:
            raise ValueError(str(error)) from None
        raise ValueError(f"{word!a}: write hash:NAME, exthash:PARENT:NAME or refhash:ROOT:INO:OFFSET")
