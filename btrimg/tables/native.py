"""Relations as tables of DuckDB's own: what is asked many questions is read faster there than in numpy's columns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from btrimg.filesystem.strings import Strings
from btrimg.tables.build import objects_of
from btrimg.tables.hashes import fingerprints

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from btrimg.tables.leafscan import Gathered
    from btrimg.tables.relation import Column


def create_table(con: Any, gathered: Gathered, *, text: bool, **more: NDArray[Any]) -> None:
    """Create the table of a relation, and columns *more* behind its own; without *text*, text as fingerprints.

    A column of few words becomes an ENUM. Blobs are left out.
    """
    relation = gathered.relation
    columns: dict[str, NDArray[Any]] = {relation.tree.name: gathered.trees} if relation.tree else {}
    selected = [f'"{name}"' for name in columns]
    for column in relation.columns:
        values = gathered.different[column.name]
        if column.type == "bytes":
            continue
        if isinstance(values, Strings):
            values = objects_of(column, values) if text else fingerprints(values)
        columns[column.name] = values[gathered.rows]
        selected.append(_selected(con, relation.name, column))
    columns |= more
    selected += more
    con.register("columns", columns)
    con.execute(f'create table "{relation.name}" as select {", ".join(selected)} from columns')  # noqa: S608 (ours)
    con.unregister("columns")


def _selected(con: Any, relation: str, column: Column) -> str:
    if not column.words:
        return f'"{column.name}"'
    kind = f'"{relation}.{column.name}"'
    con.execute(f"create type {kind} as enum ({', '.join(map(repr, column.words))})")
    cases = " ".join(f"when {number} then {word!r}" for number, word in enumerate(column.words))
    return f'case "{column.name}" {cases} end::{kind} as "{column.name}"'
