"""Relations as tables of DuckDB's own: what is asked many questions is read faster there than in numpy's columns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from btrimg.filesystem.strings import Strings
from btrimg.tables.arrow import ArrowRows
from btrimg.tables.relation import SQL_TYPES, Column
from btrimg.tables.utf8 import as_utf8, taken

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

    from btrimg.tables.leafscan import Gathered

    Values = NDArray[Any] | Strings

_ROWS_AT_ONCE = 1 << 14


def create_table(con: Any, gathered: Gathered, **more: NDArray[Any]) -> None:
    """Create the table of a relation, and truth values *more* behind its columns.

    A column of few words becomes an ENUM. Blobs are left out.
    """
    relation = gathered.relation
    columns, values = [], []
    for column in relation.columns:
        if column.type == "bytes":
            continue
        different = gathered.different[column.name]
        is_text = isinstance(different, Strings) or column.words
        columns.append(column if is_text or column.type != "text" else column._replace(type="u8"))
        values.append(as_utf8(different) if isinstance(different, Strings) else different)
    tree = [relation.tree] if relation.tree else []
    columns = [*tree, *columns, *(Column(name, "?", "") for name in more)]
    types = {column.name: _type_of(con, relation.name, column) for column in columns}
    if not len(gathered.rows):
        create_empty(con, relation.name, types)
        return

    def batches() -> Iterator[list[Values]]:
        for start in range(0, len(gathered.rows), _ROWS_AT_ONCE):
            some = slice(start, start + _ROWS_AT_ONCE)
            rows = gathered.rows[some]
            ids = [gathered.trees[some]] if tree else []
            yield [*ids, *(_at(each, rows) for each in values), *(each[some] for each in more.values())]

    rows = con.from_arrow(ArrowRows(columns, batches))
    if any(column.words for column in columns):  # they come as text
        rows = rows.project(", ".join(f'"{name}"::{type_name} as "{name}"' for name, type_name in types.items()))
    rows.create(relation.name)


def create_empty(con: Any, name: str, types: Mapping[str, str]) -> None:
    """Create a table without rows, which takes a fifth of the time; *types* are DuckDB's, by column."""
    columns = ", ".join(f'"{column}" {type_name}' for column, type_name in types.items())
    con.execute(f'create table "{name}" ({columns})')


def type_of(values: NDArray[Any]) -> str:
    """Return DuckDB's type for a column, text in it as objects."""
    return SQL_TYPES[{"b": "?", "O": "text", "U": "text"}.get(values.dtype.kind) or values.dtype.str[1:]]


def _at(values: Values, rows: NDArray[Any]) -> Values:
    return taken(values, rows) if isinstance(values, Strings) else values[rows]


def _type_of(con: Any, relation: str, column: Column) -> str:
    if not column.words:
        return SQL_TYPES[column.type]
    kind = f'"{relation}.{column.name}"'
    con.execute(f"create type {kind} as enum ({', '.join(map(repr, column.words))})")
    return kind
