"""Relations as tables of DuckDB's own: what is asked many questions is read faster there than in numpy's columns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from btrimg.filesystem.strings import Strings
from btrimg.tables.build import objects_of
from btrimg.tables.relation import SQL_TYPES, Column

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from btrimg.tables.leafscan import Gathered

_ROWS_AT_ONCE = 122_880  # a row group of DuckDB: parts of one are put together again, in twice the time


def create_table(con: Any, gathered: Gathered, **more: NDArray[Any]) -> None:
    """Create the table of a relation, and truth values *more* behind its columns.

    A column of few words becomes an ENUM. Blobs are left out.
    """
    relation = gathered.relation
    columns: list[Column] = [relation.tree] if relation.tree else []
    different: dict[str, NDArray[Any]] = {}
    for column in relation.columns:
        if column.type == "bytes":
            continue
        values = gathered.different[column.name]
        is_text = isinstance(values, Strings) or column.words
        columns.append(column if is_text or column.type != "text" else column._replace(type="u8"))
        different[column.name] = objects_of(column, values) if isinstance(values, Strings) else values
    columns += [Column(name, "?", "") for name in more]
    types = {column.name: _type_of(con, relation.name, column) for column in columns}
    if not len(gathered.rows):
        create_empty(con, relation.name, types)
    shown = ", ".join(_shown(relation.name, column) for column in columns)
    for start in range(0, len(gathered.rows), _ROWS_AT_ONCE):
        some = slice(start, start + _ROWS_AT_ONCE)
        rows = gathered.rows[some]
        part = {relation.tree.name: gathered.trees[some]} if relation.tree else {}
        part |= {name: values[rows] for name, values in different.items()}
        part |= {name: values[some] for name, values in more.items()}
        fill(con, relation.name, part, shown, more=start > 0)


def fill(con: Any, table: str, columns: Mapping[str, NDArray[Any]], shown: str = "*", *, more: bool = False) -> None:
    """Create a *table* of *columns*, text in them as objects, as *shown* has it of them; or insert *more* rows."""
    con.register("columns", columns)
    verb = f'insert into "{table}"' if more else f'create table "{table}" as'
    con.execute(f"{verb} select {shown} from columns")  # noqa: S608 (ours)
    con.unregister("columns")


def _shown(relation: str, column: Column) -> str:
    """Return a column in SQL, words in the place of their indexes."""
    if not column.words:
        return f'"{column.name}"'
    words = (f"when {index} then {word!r}::{_kind(relation, column)}" for index, word in enumerate(column.words))
    return f'case "{column.name}" {" ".join(words)} end as "{column.name}"'


def create_empty(con: Any, name: str, types: Mapping[str, str]) -> None:
    """Create a table without rows; *types* are DuckDB's, by column."""
    columns = ", ".join(f'"{column}" {type_name}' for column, type_name in types.items())
    con.execute(f'create table "{name}" ({columns})')


def type_of(values: NDArray[Any]) -> str:
    """Return DuckDB's type for a column, text in it as objects."""
    return SQL_TYPES[{"b": "?", "O": "text", "U": "text"}.get(values.dtype.kind) or values.dtype.str[1:]]


def _type_of(con: Any, relation: str, column: Column) -> str:
    if not column.words:
        return SQL_TYPES[column.type]
    con.execute(f"create type {_kind(relation, column)} as enum ({', '.join(map(repr, column.words))})")
    return _kind(relation, column)


def _kind(relation: str, column: Column) -> str:
    return f'"{relation}.{column.name}"'
