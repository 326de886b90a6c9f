"""Items and other structures field by field, as ``edit item get`` shows them: by the names and values that set them."""

from __future__ import annotations

import re

from btrimg.named import NamedTuple
from btrimg.ondisk.blocks import DiskKey
from btrimg.ondisk.keynames import key_words
from btrimg.ondisk.record import Record
from btrimg.render.answers import json_line
from btrimg.render.answers import name as text_of
from btrimg.render.dump_json import key_object, record_object
from btrimg.volume.superblocks import uuid_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

    from btrimg.corrupt.told import Change, Reading

_UUID = "16s"  # the code of fields that hold one
_CSUM = "32s"  # and that of checksums, which are no text even where they look like it
_LOOKS_LIKE_ELSE = re.compile(r"0x|\{|none$|older$|.*[@\\]")  # what text must not look like to be read back as text
_LONG = 64  # bytes of hexadecimal that a message shows


class Row(NamedTuple):
    """A field."""

    path: str
    value: Any  #: int, bytes, DiskKey or a tuple of int
    code: str  #: of its declaration
    of: type[Record] | None = None  #: the structure that it is declared in


def rows(prefix: str, record: Record) -> Iterator[Row]:
    """Yield the fields of *record*, those of nested structures by their paths; *prefix* stands before each name."""
    if isinstance(record, DiskKey) and prefix:
        yield Row(prefix.removesuffix("."), record, "DiskKey")
        return
    for (name, code), value in zip((*record.FIELDS, *record.TAIL), record, strict=True):
        path = prefix + name
        if isinstance(value, Record):
            yield from rows(f"{path}.", value)
        elif isinstance(value, tuple) and value and isinstance(value[0], Record):
            for number, each in enumerate(value):
                yield from rows(f"{path}[{number}].", each)
        else:
            yield Row(path, value, code, type(record))


def value_text(value: Any, code: str = "") -> str:
    """Return a value as it is written to set it; zeros at the end of bytes are left out, since they are filled up."""
    if isinstance(value, DiskKey):
        return key_words(value)
    if isinstance(value, tuple):
        return " ".join(map(str, value))
    if not isinstance(value, bytes):
        return str(value)
    if code == _UUID:
        return uuid_text(value)
    stripped = value if code.startswith("<") else value.rstrip(b"\0")
    try:
        text = stripped.decode()
    except UnicodeDecodeError:
        text = ""
    readable = code != _CSUM and text.isprintable() and text.strip() == text and not _LOOKS_LIKE_ELSE.match(text)
    return text if text and readable else f"0x{stripped.hex()}"


def field_names(reading: Reading) -> Iterator[str]:
    """Yield the names of all fields."""
    return (row.path for row in _all_rows(reading))


def _all_rows(reading: Reading) -> list[Row]:
    return [row for prefix, record in reading.records for row in rows(prefix, record)]


def _chosen(reading: Reading) -> Iterator[Row]:
    """Yield the fields that were asked for: what is declared as it is shown, all else as numbers and bytes."""
    known = _all_rows(reading)
    for name, value in reading.fields:
        below = [row for row in known if row.path == name or row.path.startswith((f"{name}.", f"{name}["))]
        yield from below or [Row(name, value, "<")]


def reading_lines(readings: Iterable[Reading]) -> Iterator[str]:
    """Yield the lines that show *readings*, each below a heading unless single fields were asked for."""
    first = True
    for reading in readings:
        shown = list(_chosen(reading)) if reading.fields else _all_rows(reading)
        if not reading.fields:
            yield from () if first else ("",)
            yield _heading(reading)
            if reading.tail:
                shown.append(Row("payload" if not reading.records else "tail", reading.tail, "<"))
        width = max((len(row.path) for row in shown), default=0)
        indent = "" if reading.fields else "  "
        for row in shown:
            yield f"{indent}{row.path:<{width}}  {value_text(row.value, row.code)}"
        first = False


def _heading(reading: Reading) -> str:
    size = "" if reading.size is None else f"{reading.size} bytes"
    block = "" if reading.block is None or reading.key is None else f"in block {reading.block}"
    names = dict.fromkeys(type(record).__name__ for _, record in reading.records) if reading.key else ()
    return f"{reading.target}: {', '.join(filter(None, (' '.join(names), size, block)))}".removesuffix(": ")


def reading_json(reading: Reading) -> str:
    """Return a reading as a line of JSON."""
    head: dict[str, Any] = {"target": reading.target}
    if reading.key is not None:
        head |= {"key": key_object(reading.key), "size": reading.size, "block": reading.block}
    if reading.fields:
        return json_line(head | {"fields": {row.path: json_value(row) for row in _chosen(reading)}})
    records = [
        {"at": prefix.removesuffix("."), "record": type(record).__name__, **record_object(record)}
        for prefix, record in reading.records
    ]
    return json_line(head | {"records": records, "tail": reading.tail.hex()})


def json_value(row: Row) -> Any:
    """Return the value of a field, for JSON."""
    if isinstance(row.value, DiskKey):
        return key_object(row.value)
    if isinstance(row.value, bytes):
        if row.path.rpartition(".")[2] == "name":
            return text_of(row.value)
        return uuid_text(row.value) if row.code == _UUID else row.value.hex()
    return row.value


def change_line(change: Change) -> str:
    """Return what became of a field."""
    return f"{change.target}: {_short(change.before)} -> {_short(change.after)}"


def change_object(change: Change) -> dict[str, Any]:
    """Return what became of a field, for JSON; bytes in hexadecimal."""
    before, after = (value.hex() if isinstance(value, bytes) else value for value in (change.before, change.after))
    return {"target": change.target, "before": before, "after": after}


def _short(value: int | bytes | None) -> str:
    if value is None:
        return "none"
    text = value_text(value)
    return text if len(text) <= 2 * _LONG else f"{text[: 2 * _LONG]}… ({len(value)} bytes)"  # type: ignore[arg-type]
