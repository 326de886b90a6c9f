"""SQL over the relations, by DuckDB: of an image only the relations that a query names are built."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any

from btrimg.named import NamedTuple
from btrimg.tables.batched import relations
from btrimg.tables.database import Database, Limits, QueryError
from btrimg.tables.schema import RELATIONS

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from btrimg.filesystem.image import Image
    from btrimg.tables.batched import Progress

_ROWS_AT_ONCE = 10_000
_LIMITS = Limits()


class Answer(NamedTuple):
    """The rows of a query, fetched as they are iterated over."""

    columns: tuple[str, ...]
    rows: Iterator[tuple[Any, ...]]


def query(
    image: Image, sql: str, limits: Limits = _LIMITS, progress: Progress = lambda _leaves, _bytes: None
) -> Answer:
    """Run one or several statements of *sql* over the image; return the rows of the last, none if it gives none.

    The statements cannot reach files, other databases or Python. What of the image cannot be read is reported to it and
    is in no row; *progress* hears how many more leaves, of how many bytes, are read. Raises QueryError when DuckDB
    refuses the query.
    """
    database = Database(limits)
    try:
        _add(database, image, sql, progress)
        columns = database.run(lambda con: _columns_of(con, sql))
    except BaseException:
        database.close()
        raise
    if not columns:
        database.close()
        return Answer(columns, iter(()))
    return Answer(columns, _rows_of(database))


def _columns_of(con: Any, sql: str) -> tuple[str, ...]:
    con.execute(sql)
    return tuple(name for name, *_ in con.description or ())


def _rows_of(database: Database) -> Iterator[tuple[Any, ...]]:
    with database:
        while rows := database.run(lambda con: con.fetchmany(_ROWS_AT_ONCE)):
            yield from rows


def query_to_parquet(
    image: Image, sql: str, path: str, limits: Limits = _LIMITS, progress: Progress = lambda _leaves, _bytes: None
) -> None:
    """Run a query as ``query`` does and write its rows to the Parquet file *path*, which is not there yet.

    Raises QueryError when DuckDB refuses the query, or it gives no rows to write; part of the file may be there then.
    """
    with Database(limits, [path]) as database:
        _add(database, image, sql, progress)
        _write(database, sql, path)


def export_tables(image: Image, directory: str, label: str, limits: Limits = _LIMITS) -> Generator[str, None, None]:
    """Write every relation to ``NAME.parquet`` in *directory*, where none is yet; yield each name when it is done.

    A first column ``image`` says *label* in every row, so that the files of many images can be queried together.
    """
    paths = {name: os.path.join(directory, f"{name}.parquet") for name in RELATIONS}
    with Database(limits, paths.values()) as database:
        for rows in relations(image, list(RELATIONS), database.spill):
            name = rows.relation.name
            database.add(rows)
            _write(database, f"SELECT $label AS image, * FROM {name}", paths[name], label=label)  # noqa: S608 (ours)
            database.remove(rows)
            yield name


def _write(database: Database, sql: str, path: str, **parameters: str) -> None:
    """Write the rows of a query to a Parquet file."""

    def write(con: Any) -> None:
        found = con.sql(sql, params=parameters or None)
        if found is None:
            raise QueryError("the query gives no rows")
        found.write_parquet(path, compression="zstd")

    database.run(write)


def _add(database: Database, image: Image, sql: str, progress: Progress) -> None:
    """Make the relations that *sql* names known under their names."""
    try:
        sql.encode()  # DuckDB takes no surrogates
    except UnicodeEncodeError:
        raise QueryError("the query is not UTF-8") from None
    for rows in relations(image, database.run(lambda con: _named(con, sql)), database.spill, progress):
        database.add(rows)


def _named(con: Any, sql: str) -> list[str]:
    """Return the relations that *sql* names."""
    import duckdb

    try:
        if not con.extract_statements(sql):
            raise QueryError("there is no query; see btrimg sql --help")
        words = {name.lower() for name in con.get_table_names(sql)}
    except duckdb.Error:  # of several statements, of DESCRIBE, or of a join whose columns it would have to know
        words = set(re.findall(r"\w+", sql.lower()))
    return [name for name in RELATIONS if name in words]
