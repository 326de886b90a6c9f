"""SQL over the relations, by DuckDB: of an image only the relations that a query names are built."""

from __future__ import annotations

import os
import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from btrimg.errors import BtrimgError
from btrimg.tables.build import build
from btrimg.tables.schema import RELATIONS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from btrimg.filesystem.image import Image

_ROWS_AT_ONCE = 10_000


class QueryError(BtrimgError):
    """Report a query that DuckDB refuses; the text is DuckDB's first sentence."""


class Answer(NamedTuple):
    """The rows of a query, fetched as they are iterated over."""

    columns: tuple[str, ...]
    rows: Iterator[tuple[Any, ...]]


def query(image: Image, sql: str) -> Answer:
    """Run one or several statements of *sql* over the image; return the rows of the last, none if it gives none.

    The statements cannot reach files, other databases or Python. What of the image cannot be read is reported to it and
    is in no row. Raises QueryError when DuckDB refuses the query.
    """
    con = connect()
    with _in_one_sentence():
        _register(con, image, sql)
        con.execute(sql)
        columns = tuple(name for name, *_ in con.description or ())
    return Answer(columns, _rows_of(con) if columns else iter(()))


def query_to_parquet(image: Image, sql: str, path: str) -> None:
    """Run a query as ``query`` does and write its rows to the Parquet file *path*, which appears when it is whole.

    Raises QueryError when DuckDB refuses the query, or it gives no rows to write.
    """
    partial = f"{path}.partial"
    con = connect(writable=partial)
    with _in_one_sentence():
        _register(con, image, sql)
        found = con.sql(sql)
        if found is None:
            raise QueryError("the query gives no rows")
        _write(found, partial, path)


def export_tables(image: Image, directory: str, label: str) -> Iterator[str]:
    """Write every relation to ``NAME.parquet`` in *directory*; yield each name when it is done.

    A first column ``image`` says *label* in every row, so that the files of many images can be queried together.
    Relations are built one after the other, to hold one in memory.
    """
    for name in RELATIONS:
        path = os.path.join(directory, f"{name}.parquet")
        con = connect(writable=f"{path}.partial")
        con.register(name, build(image, [name])[name])
        with _in_one_sentence():
            found = con.sql(f"SELECT $label AS image, * FROM {name}", params={"label": label})  # noqa: S608 (ours)
            _write(found, f"{path}.partial", path)
        con.close()
        yield name


def _write(found: Any, partial: str, path: str) -> None:
    try:
        found.write_parquet(partial, compression="zstd")
        os.rename(partial, path)
    except BaseException:
        if os.path.exists(partial):
            os.unlink(partial)
        raise


def connect(writable: str | None = None) -> Any:
    """Return a database in memory that reaches nothing outside it, but the file *writable*."""
    import duckdb

    con = duckdb.connect()
    if writable:
        con.execute("SET allowed_paths = [$path]", {"path": os.path.abspath(writable)})
    con.execute("SET enable_external_access = false; SET lock_configuration = true")
    return con


def _register(con: Any, image: Image, sql: str) -> None:
    """Build the relations that *sql* names, and make them known under their names; DuckDB does not copy them."""
    sql.encode()  # DuckDB takes no surrogates
    for name, table in build(image, _named(con, sql)).items():
        con.register(name, table)


def _named(con: Any, sql: str) -> list[str]:
    """Return the relations that *sql* names."""
    import duckdb

    try:
        words = {name.lower() for name in con.get_table_names(sql)}
    except duckdb.Error:  # of several statements, of DESCRIBE, or of a join whose columns it would have to know
        words = set(re.findall(r"\w+", sql.lower()))
    return [name for name in RELATIONS if name in words]


def _rows_of(con: Any) -> Iterator[tuple[Any, ...]]:
    with _in_one_sentence():
        rows: Sequence[tuple[Any, ...]] = con.fetchmany(_ROWS_AT_ONCE)
    while rows:
        yield from rows
        with _in_one_sentence():
            rows = con.fetchmany(_ROWS_AT_ONCE)


@contextmanager
def _in_one_sentence() -> Iterator[None]:
    """Turn an error of DuckDB into a QueryError without its drawing of the query."""
    import duckdb

    try:
        yield
    except UnicodeEncodeError:
        raise QueryError("the query is not UTF-8") from None
    except duckdb.Error as error:
        raise QueryError(str(error).partition("\n")[0]) from None
