"""Rows of a query as an aligned table, JSONL or CSV."""

from __future__ import annotations

import json
from itertools import chain, count
from math import isfinite
from typing import TYPE_CHECKING, Any

from btrimg.render.text import printable, table
from btrimg.tables.relation import SQL_TYPES
from btrimg.tables.schema import RELATIONS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    Row = Sequence[Any]


def table_lines(columns: Sequence[str], rows: Iterable[Row]) -> Iterator[str]:
    """Yield the lines of a table; holds all rows in memory. NULL is empty, blobs and text are escaped."""
    found = list(rows)
    left = {number for number in range(len(columns)) if any(isinstance(row[number], str | bytes) for row in found)}
    yield from table([*map(_cell, columns)], ([*map(_cell, row)] for row in found), frozenset(left))


def json_lines(columns: Sequence[str], rows: Iterable[Row]) -> Iterator[str]:
    """Yield one object for each row; blobs in hexadecimal, what JSON has no type for (times, decimals, NaN) as text.

    Where columns share a name, it is followed by a number from the second on, as DuckDB names them in a subquery.
    """
    names: list[str] = []
    for name in columns:
        numbered = (f"{name}_{number}" for number in count(1))
        names.append(name if name not in names else next(each for each in numbered if each not in (*columns, *names)))
    for row in rows:
        yield json.dumps(dict(zip(names, map(_plain, row), strict=True)))


def csv_lines(columns: Sequence[str], rows: Iterable[Row]) -> Iterator[str]:
    """Yield the lines of RFC 4180; a cell may hold line breaks. Blobs are in hexadecimal, NULL is empty."""
    import csv
    import io

    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    for row in chain([columns], rows):
        writer.writerow([_text(value) for value in row])
        yield buffer.getvalue().removesuffix("\n")
        buffer.seek(0)
        buffer.truncate()


def schema_lines() -> Iterator[str]:
    """Yield what there is to query: every relation, and name, type, unit and meaning of its columns."""
    for relation in RELATIONS.values():
        yield f"{relation.name}: {relation.comment}"
        cells = [(c.name, SQL_TYPES[c.type], c.unit, c.meaning) for c in relation.all_columns]
        widths = [max(len(row[number]) for row in cells) for number in range(3)]
        for *row, comment in cells:
            columns = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            yield f"  {columns}  {comment}"
        yield ""


def _cell(value: object) -> str:
    return printable(value if isinstance(value, bytes) else _text(value).encode("utf-8", "surrogateescape"))


def _text(value: object) -> str:
    """Return a value outside JSON: NULL is empty, lists and structures are JSON."""
    if value is None:
        return ""
    plain = _plain(value)
    return plain if isinstance(plain, str) else json.dumps(plain, ensure_ascii=False)


def _plain(value: object) -> object:
    """Return a value, and what is in it, as JSON has it."""
    if value is None or isinstance(value, str | int):  # bool is an int
        return value
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, float):
        return value if isfinite(value) else str(value)
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, dict):
        return {_text(key): _plain(each) for key, each in value.items()}
    return str(value)
