"""DuckDB as queries have it: bounded in memory, to be interrupted at any time, reaching nothing outside."""

from __future__ import annotations

import os
import re
from contextlib import ExitStack, suppress
from time import sleep
from typing import TYPE_CHECKING, Any, Self, TypeVar

from btrimg.errors import BtrimgError
from btrimg.named import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from btrimg.tables.arrow import ArrowRows
    from btrimg.tables.batched import Rows

Result = TypeVar("Result")

_AGAIN = 0.02  # seconds until a query that goes on is told again to stop
COLUMNS_SHARE, DUCKDB_SHARE = 4, 2  #: of the memory, one of so many parts


class QueryError(BtrimgError):
    """Report a query that DuckDB refuses; the text is DuckDB's first sentence."""


class Limits(NamedTuple):
    """What a query may take of the machine."""

    memory: int = 1 << 30  #: bytes, about; what needs more goes to temporary files
    directory: str | None = None  #: for these; None is where tempfile puts them


def engine() -> Any:
    """Return DuckDB's module without the package around it, which takes 0.13 s more to import.

    What is missing is the scanning of Arrow streams, and relations that are put together in Python.
    """
    try:
        import _duckdb
    except ImportError:  # its name is DuckDB's own business
        import duckdb

        return duckdb
    return _duckdb


def connect(**settings: bool | int | str) -> Any:
    """Return a database in memory of ``engine``, with *settings*, that reaches nothing outside it."""
    con = engine().connect(config={**settings})
    _confine(con, ())
    return con


def _confine(con: Any, writable: Iterable[str]) -> None:
    """Let *con* reach the files *writable* and no others; raises BtrimgError for a path that is not UTF-8."""
    paths = [os.path.abspath(path) for path in writable]
    for path in paths:
        if any("\ud800" <= letter <= "\udfff" for letter in path):
            raise BtrimgError(f"{path!a}: DuckDB writes only to paths in UTF-8; name another one")
    if paths:  # to hand over a value takes 6 ms the first time: imports of what it might be
        con.execute("SET allowed_paths = $paths", {"paths": paths})
    con.execute("SET enable_external_access = false; SET lock_configuration = true")


def _sentence(text: str) -> str:
    """Return the first line of an error, and what is told as JSON, by threads that write, as it reads there."""
    import json

    line = text.partition("\n")[0]
    told = re.search(r'"exception_message":("(?:[^"\\]|\\.)*")', line)
    return f"IO Error: {json.loads(told[1])}" if told else line


class Database:
    """A database whose relations are scanned batch by batch (context manager).

    It can write nothing but the files *writable*, and in a directory of its own, which goes with it.
    """

    def __init__(self, limits: Limits, writable: Iterable[str] = ()) -> None:
        # Here, and below: who only wants ``connect`` shall not wait for 20 ms.
        import tempfile
        from concurrent.futures import ThreadPoolExecutor

        import duckdb

        from btrimg.tables.spill import Spill

        self.spill = Spill(limits.memory // COLUMNS_SHARE, limits.directory)
        self._scanned: dict[str, ArrowRows] = {}
        self._running = self._closing = False
        with ExitStack() as stack:
            directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="btrimg-", dir=limits.directory))
            self._con = stack.enter_context(duckdb.connect())
            self._thread = stack.enter_context(ThreadPoolExecutor(1))
            settings = {"temp_directory": directory, "memory_limit": f"{limits.memory // DUCKDB_SHARE}B"}
            for name, value in settings.items():
                self._con.execute(f"SET {name} = $value", {"value": value})
            _confine(self._con, writable)
            self._stack = stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the query that may still run, close the database and remove what it wrote aside.

        However often Ctrl-C is hit, or the program told to stop: a query that nobody stops goes on for ever.
        """
        self._closing = True
        while self._running:
            with suppress(BaseException):
                self._con.interrupt()
                sleep(_AGAIN)
        self._stack.close()

    def add(self, rows: Rows) -> None:
        """Let queries see a relation."""
        from btrimg.tables.arrow import ArrowRows

        name = rows.relation.name
        self._scanned[name] = ArrowRows(rows.relation.all_columns, rows.batches)
        self._con.register(name, self._scanned[name])

    def remove(self, rows: Rows) -> None:
        """Forget a relation."""
        self._con.unregister(rows.relation.name)
        del self._scanned[rows.relation.name]

    def run(self, call: Callable[[Any], Result]) -> Result:
        """Return what *call* does with the connection, in another thread: DuckDB itself does not hear Ctrl-C.

        Raises QueryError when DuckDB refuses, and what making rows raised.
        """
        import duckdb

        try:
            return self._thread.submit(self._call, call).result()
        except duckdb.Error as error:
            for rows in self._scanned.values():
                if rows.failure:
                    raise rows.failure from None
            sentence = _sentence(str(error))
            if isinstance(error, duckdb.OutOfMemoryException):
                sentence += "; --memory lets it have more"
            raise QueryError(sentence) from None

    def _call(self, call: Callable[[Any], Result]) -> Result:
        self._running = True
        try:
            if self._closing:
                from concurrent.futures import CancelledError

                raise CancelledError
            return call(self._con)
        finally:
            self._running = False
