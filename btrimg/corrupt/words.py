"""The language of edits: from a word to what it targets; docs/corrupt.md describes it.

Text in braces is a reference to another target; nothing in it counts for the word around it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal, get_args

from btrimg.named import NamedTuple
from btrimg.ondisk.spans import Step, parse_path

if TYPE_CHECKING:
    from collections.abc import Iterator

Kind = Literal["file", "item", "block", "super", "data", "csum-of", "parity-p", "parity-q", "device", "cache"]
_BY_ADDRESS = ("data", "csum-of", "parity-p", "parity-q")
_OF_FILES = ("ino", "subvolume")  #: what a path gives besides items
_OF_BLOCKS = ("header", "slots", "bytes")  #: fields of tree blocks; no key starts like this

_MARK = re.compile(r"@(?:(mirror|devid):(\d+)|(keep-csum|keep-parity|keep-parents|sort))$")
_OPERATORS = "+-|&^"


class Marks(NamedTuple):
    """What is said of an edit behind its value."""

    mirror: int | None = None  #: the only copy that is changed
    devid: int | None = None  #: the only device that is changed
    keep_csum: bool = False  #: leave the checksum as it is
    keep_parity: bool = False  #: leave P and Q as they are
    keep_parents: bool = False  #: leave the first keys in the nodes above as they are
    sort: bool = False  #: bring the items of the leaf into the order of their keys


class Target(NamedTuple):
    """What is to be changed, or read."""

    kind: Kind
    head: str = ""  #: a tree, a block or a path; of a device its id
    key: str = ""  #: of the item, or the way through a tree; otherwise an address
    steps: tuple[Step, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names in the path of the field."""
        return tuple(step.name for step in self.steps if step.name)


class Edit(NamedTuple):
    """One change."""

    text: str
    target: Target
    operator: str  #: empty, or one of + - | & ^
    value: str
    marks: Marks


def parse_edit(text: str) -> Edit:
    """Return the edit that *text*, ``TARGET=VALUE``, means; raise ValueError with a sentence when it means none."""
    at = next((at for at in _outside(text) if text[at] == "="), None)
    if at is None:
        raise ValueError(f"{text!a} says no new value; write TARGET=VALUE")
    operator = text[at - 1] if at and text[at - 1] in _OPERATORS and text[at - 2 : at] != "[+" else ""
    value, marks = _marks(text[at + 1 :])
    return Edit(text, parse_target(text[: at - len(operator)]), operator, value, marks)


def parse_reference(text: str) -> tuple[Target, Marks]:
    """Return what a reference, without its braces, leads to; raise ValueError with a sentence when it is none."""
    target, marks = _marks(text)
    return parse_target(target), marks


def _marks(text: str) -> tuple[str, Marks]:
    marks = Marks()
    while found := _MARK.search(text):
        text = text[: found.start()]
        number, flag = found[1], found[3]
        marks = marks._replace(**{number: int(found[2])} if number else {flag.replace("-", "_"): True})
    return text, marks


def parse_target(text: str) -> Target:
    """Return the target that *text* names; raise ValueError with a sentence when it names none."""
    if text.startswith("/"):
        return _in_file(text)
    head, *rest = split_outside(text, "/")
    if head == "super":
        return Target("super", steps=_steps(text, rest))
    if head == "cache" and rest:
        return Target("cache", key=rest[0], steps=_steps(text, rest[1:]))
    if head == "device":
        if len(rest) != 2:
            raise ValueError(f"{text!a}: write device/DEVID/PHYSICAL")
        return Target("device", rest[0], rest[1])
    for kind in get_args(Kind):
        if kind in _BY_ADDRESS and head == kind and len(rest) == 1:
            return Target(kind, key=rest[0])
    name, at, _ = head.partition("@")
    key = rest.pop(0) if rest and not (at and _starts_like_field(rest[0])) else ""
    if at and not (name == "block" and key):
        return Target("block", head, key, _steps(text, rest))
    if not key:
        raise ValueError(f"{text!a}: write TREE/OBJECTID.TYPE.OFFSET/FIELD")
    return Target("item", head, key, _steps(text, rest))


def _in_file(text: str) -> Target:
    path, colon, rest = text.rpartition(":")
    for at in _outside(text):  # at the first colon behind which a field or key type may stand
        if text[at] == ":" and (text[at + 1 : at + 2].isupper() or text[at + 1 :] in _OF_FILES):
            path, colon, rest = text[:at], ":", text[at + 1 :]
            break
    if not colon:
        raise ValueError(f"{text!a}: write /PATH:TYPE.OFFSET/FIELD")
    if rest in _OF_FILES:
        return Target("file", path, rest)
    key, *further = split_outside(rest, "/")
    return Target("item", path, key, _steps(text, further))


def _starts_like_field(text: str) -> bool:
    return re.match(r"\w*", text)[0] in _OF_BLOCKS  # type: ignore[index]  # it matches always


def _steps(text: str, rest: list[str]) -> tuple[Step, ...]:
    if len(rest) > 1:
        raise ValueError(f"{text!a} has too many parts; a field is written with dots, as stripes[0].offset")
    return parse_path(rest[0]) if rest else ()


def split_outside(text: str, separator: str, most: int = -1) -> list[str]:
    """Return *text* split at each *separator* that stands in no braces, at most at the first *most*."""
    parts: list[str] = []
    start = 0
    for at in _outside(text):
        if text[at] == separator and most != len(parts):
            parts.append(text[start:at])
            start = at + 1
    return [*parts, text[start:]]


def _outside(text: str) -> Iterator[int]:
    """Yield the positions in *text* that are in no braces; raise ValueError when braces do not match."""
    depth = 0
    for at, letter in enumerate(text):
        if letter == "{":
            depth += 1
        elif letter == "}":
            depth -= 1
        elif depth == 0:
            yield at
        if depth < 0:
            break
    if depth:
        raise ValueError(f"{text!a}: braces do not match")
