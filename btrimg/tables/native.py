"""Relations as tables of DuckDB's own: what is asked many questions is read faster there than in numpy's columns."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Any

from btrimg.filesystem.strings import Strings
from btrimg.tables.arrow import ArrowRows
from btrimg.tables.relation import Column
from btrimg.tables.utf8 import as_utf8, taken

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from btrimg.tables.leafscan import Gathered

    Values = NDArray[Any] | Strings

_ROWS_AT_ONCE = 1 << 16


def create_table(con: Any, gathered: Gathered, **more: NDArray[Any]) -> None:
    """Create the table of a relation, and truth values *more* behind its columns.

    A column of few words becomes an ENUM. Blobs are left out.
    """
    relation = gathered.relation
    columns, values, selected = [], [], []
    for column in relation.columns:
        if column.type == "bytes":
            continue
        different = gathered.different[column.name]
        is_text = isinstance(different, Strings) or column.words
        columns.append(column if is_text or column.type != "text" else column._replace(type="u8"))
        values.append(as_utf8(different) if isinstance(different, Strings) else different)
        selected.append(_selected(con, relation.name, column))
    tree = [relation.tree] if relation.tree else []
    flags = [Column(name, "?", "") for name in more]

    def batches() -> Iterator[list[Values]]:
        for start in range(0, len(gathered.rows), _ROWS_AT_ONCE):
            some = slice(start, start + _ROWS_AT_ONCE)
            rows = gathered.rows[some]
            ids = [gathered.trees[some]] if tree else []
            yield [*ids, *(_at(each, rows) for each in values), *(each[some] for each in more.values())]

    con.register("columns", ArrowRows([*tree, *columns, *flags], batches))
    names = [f'"{each.name}"' for each in tree], selected, [f'"{name}"' for name in more]
    con.execute(f'create table "{relation.name}" as select {", ".join(chain(*names))} from columns')  # noqa: S608 (ours)
    con.unregister("columns")


def _at(values: Values, rows: NDArray[Any]) -> Values:
    return taken(values, rows) if isinstance(values, Strings) else values[rows]


def _selected(con: Any, relation: str, column: Column) -> str:
    if not column.words:
        return f'"{column.name}"'
    kind = f'"{relation}.{column.name}"'
    con.execute(f"create type {kind} as enum ({', '.join(map(repr, column.words))})")
    return f'"{column.name}"::{kind} as "{column.name}"'
