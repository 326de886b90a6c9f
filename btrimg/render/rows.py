"""Rows of a query as an aligned table, JSONL or CSV."""

from __future__ import annotations

import json
from itertools import chain
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
    """Yield one object for each row; blobs in hexadecimal, what JSON has no type for (times, decimals, NaN) as text."""
    for row in rows:
        values = [str(value) if isinstance(value, float) and not isfinite(value) else value for value in row]
        yield json.dumps(dict(zip(columns, values, strict=True)), default=_plain)


def csv_lines(columns: Sequence[str], rows: Iterable[Row]) -> Iterator[str]:
    """Yield the lines of RFC 4180; a cell may hold line breaks. Blobs are in hexadecimal, NULL is empty."""
    import csv
    import io

    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    for row in chain([columns], rows):
        writer.writerow([_plain(value) if isinstance(value, bytes) else value for value in row])
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
    if value is None:
        return ""
    if isinstance(value, str):
        return printable(value.encode("utf-8", "surrogateescape"))
    return printable(value) if isinstance(value, bytes) else str(value)


def _plain(value: object) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)
