"""Every field of every Record, with a value that it did not have, and the words that set it."""

from __future__ import annotations

import importlib
import pkgutil
from typing import TYPE_CHECKING, Any, NamedTuple

import btrimg.ondisk
from btrimg.ondisk.record import Record, split_code

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Fields that decide how the bytes behind them are read: each is set alone.
SHAPING = {
    "ExtentItem": {"flags"},
    "FileExtent": {"type"},
    "FileExtentInline": {"type"},
    "InlineRef": {"type"},
    "InlineDataRef": {"type"},
    "InlineSharedDataRef": {"type"},
    "InodeRef": {"name_len"},
    "InodeExtref": {"name_len"},
    "DirItem": {"name_len", "data_len"},
    "RootRef": {"name_len"},
    "Chunk": {"num_stripes"},
    "Header": {"nritems", "level"},
    "Superblock": {"sys_chunk_array_size", "sys_chunk_array"},
}


class Field(NamedTuple):
    """A field, and what to set it to."""

    path: str
    value: int | bytes
    alone: bool  # whether it is set by itself

    @property
    def word(self) -> str:
        return f"{self.path}={self.value if isinstance(self.value, int) else '0x' + self.value.hex()}"


def records() -> list[type[Record]]:
    """Return every Record that btrimg.ondisk declares."""
    modules = (
        importlib.import_module(f"btrimg.ondisk.{each.name}") for each in pkgutil.iter_modules(btrimg.ondisk.__path__)
    )
    found = {
        value.__name__: value
        for module in modules
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, Record) and value is not Record
    }
    return [found[name] for name in sorted(found)]


def fields_of(record: Record, prefix: str = "") -> Iterator[Field]:
    """Yield the fields of *record*: of arrays the first and the last element, of structures theirs."""
    shaping = SHAPING.get(type(record).__name__, set())
    for (name, code), value in zip((*record.FIELDS, *record.TAIL), record, strict=True):
        for field in _field(prefix + name, code, value):
            yield field._replace(alone=name in shaping)


def _field(path: str, code: str, value: Any) -> Iterator[Field]:
    if isinstance(value, Record):
        yield from fields_of(value, f"{path}.")
    elif isinstance(value, tuple):
        _, element, _ = split_code(code) if not code.startswith("<") else (0, "", None)
        for number in sorted({0, len(value) - 1}) if value else ():
            yield from _field(f"{path}[{number}]", element, value[number])
    elif isinstance(value, bytes):
        yield Field(path, _other_bytes(path, value), alone=False)
    else:
        yield Field(path, _other_number(path, code, value), alone=False)


_SIZES = {"B": 8, "H": 16, "I": 32, "Q": 64, "i": 32, "q": 64}


def _other_number(path: str, code: str, value: int) -> int:
    """Return a number that nothing else has, as far as the field has bits for that."""
    bits = _SIZES[code]
    counted = path.removesuffix("_v2")  # of a root item, the same generation: else what follows it counts for nothing
    noise = sum((position + 1) * ord(letter) for position, letter in enumerate(counted))
    other = {8: 101 + noise % 97, 16: 20_000 + noise % 9973, 32: 700_000_000 + noise, 64: 41_000_000_000_000 + noise}[
        bits
    ]
    return other + 1 if other == value else other


def _other_bytes(path: str, value: bytes) -> bytes:
    """Return as many other bytes, letters throughout; of what has none, nothing can be set."""
    noise = sum(map(ord, path))
    return bytes(97 + (noise + position * 7) % 26 for position in range(len(value)))
