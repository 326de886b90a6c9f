"""The database that rules are run in: filled by a thread of its own while relations are made, then asked by several."""

from __future__ import annotations

from queue import Queue
from threading import Thread
from typing import TYPE_CHECKING, Any

from btrimg.tables.database import QueryError, connect
from btrimg.tables.memory import give_back
from btrimg.tables.native import create_table
from btrimg.trees.ahead import ahead

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from btrimg.tables.leafscan import Gathered

    Task = Callable[[Any], object]  # takes the connection
    Rows = list[tuple[Any, ...]]

_ROWS_AT_ONCE = 10_000
_MANY = 100_000  # rows: the memory that making them took is worth giving back


class Store:
    """Relations in DuckDB. DuckDB works outside Python's lock, so what fills it need not keep the caller waiting.

    First it is filled; after ``settle`` it is asked.
    """

    def __init__(self) -> None:
        self._tasks: Queue[Task | None] = Queue(1)  # what waits holds memory
        self._con: Any = None
        self._error: BaseException | None = None
        self._thread = Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            # Answers are sorted, so rows need not keep their order, and tables are made in half the time.
            self._con = connect(preserve_insertion_order=False)
            while task := self._tasks.get():
                task(self._con)
        except BaseException as error:  # raised where it is waited for
            self._error = error
            while self._tasks.get():  # nobody shall wait for a place in the queue
                pass

    def later(self, task: Task) -> None:
        """Let *task* work on the connection when those before it are done; waits for all of them but one."""
        self._tasks.put(task)

    def create(self, gathered: Gathered, **more: NDArray[Any]) -> None:
        """Create the table of a relation, as ``create_table`` does."""

        def create(con: Any) -> None:
            create_table(con, gathered, **more)
            if len(gathered.rows) > _MANY:
                give_back()

        self.later(create)

    def create_from(self, name: str, columns: dict[str, NDArray[Any]]) -> None:
        """Create a table of *columns*, text in them as objects."""

        def create(con: Any) -> None:
            con.register("columns", columns)
            con.execute(f'create table "{name}" as select * from columns')  # noqa: S608 (ours)
            con.unregister("columns")

        self.later(create)

    def settle(self) -> None:
        """Wait until all is there; raises what a task has raised."""
        self._tasks.put(None)
        self._thread.join()
        if self._error:
            raise self._error

    def empty(self) -> set[str]:
        """Return the names of the tables without rows."""
        names = self._con.execute("select table_name from duckdb_tables() where estimated_size = 0").fetchall()
        return {name for (name,) in names}

    def answers(self, queries: Sequence[str]) -> Iterator[tuple[tuple[str, ...], Iterator[Rows]] | QueryError]:
        """Yield for each of *queries*, in order, the names of its columns and its rows, some at once.

        The rows are there until the next answer is asked for. Of a query that numbers on the image make DuckDB refuse,
        as when a sum has more than 64 bits, its error is the answer.
        """
        import duckdb

        def ask(query: str, cursor: Any) -> tuple[tuple[str, ...], Rows, Any] | QueryError:
            try:
                cursor.execute(f"from ({query}) order by all")
                return tuple(name for name, *_ in cursor.description), cursor.fetchmany(_ROWS_AT_ONCE), cursor
            except duckdb.Error as error:
                return QueryError(str(error).partition("\n")[0])

        for _, answer in ahead(ask, queries, self._con.cursor):
            yield answer if isinstance(answer, QueryError) else (answer[0], _all(*answer[1:]))


def _all(rows: Rows, cursor: Any) -> Iterator[Rows]:
    while rows:
        yield rows
        rows = cursor.fetchmany(_ROWS_AT_ONCE)
