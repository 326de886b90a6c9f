"""The database that rules are run in: filled by a thread of its own while relations are made, then asked by several."""

from __future__ import annotations

from queue import Queue
from threading import Thread
from typing import TYPE_CHECKING, Any

from btrimg.check.derived import make, words_of
from btrimg.tables.database import QueryError, connect
from btrimg.tables.memory import give_back
from btrimg.tables.native import create_empty, create_table, type_of
from btrimg.trees.ahead import ahead

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from btrimg.check.derived import Derived
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
        self.refused: list[str] = []  # a sentence for each derived relation that DuckDB could not make
        self._tables: set[str] = set()
        self._empty: set[str] = set()  # those of them without rows
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
        self._note(gathered.relation.name, len(gathered.rows))

        def create(con: Any) -> None:
            create_table(con, gathered, **more)
            if len(gathered.rows) > _MANY:
                give_back()

        self.later(create)

    def create_from(self, name: str, columns: dict[str, NDArray[Any]]) -> None:
        """Create a table of *columns*, text in them as objects."""
        rows = len(next(iter(columns.values())))
        self._note(name, rows)

        def create(con: Any) -> None:
            if not rows:
                create_empty(con, name, {column: type_of(values) for column, values in columns.items()})
                return
            con.register("columns", columns)
            con.execute(f'create table "{name}" as select * from columns')  # noqa: S608 (ours)
            con.unregister("columns")

        self.later(create)

    def create_view(self, name: str, query: str) -> None:
        """Create a view; a rule that reads it reads tables without rows when those of the *query* have none."""
        self._note(name, 0 if self.silent(query) else 1)
        self.later(lambda con: con.execute(f"create view {name} as {query}"))

    def settle(self) -> None:
        """Wait until all is there; raises what a task has raised."""
        self._tasks.put(None)
        self._thread.join()
        if self._error:
            raise self._error

    def _note(self, name: str, rows: int) -> None:
        self._tables.add(name)
        if not rows:
            self._empty.add(name)

    def derive(self, relations: Sequence[Derived]) -> None:
        """Make relations of those that are there; what *refused* says is known after ``settle``."""

        def derive(con: Any) -> None:
            for made in make(con, relations):
                self._note(made.name, made.rows)
                if made.refusal:
                    self.refused.append(made.refusal)

        self.later(derive)

    def silent(self, query: str) -> bool:
        """Return whether all tables that a *query* reads are without rows."""
        return words_of(query) & self._tables <= self._empty

    def answers(self, queries: Sequence[str]) -> Iterator[tuple[tuple[str, ...], Iterator[Rows]] | QueryError]:
        """Yield for each of *queries*, in order, the names of its columns and its rows, some at once.

        The rows are there until the next answer is asked for. Of a query that numbers on the image make DuckDB refuse,
        as when a sum has more than 64 bits, its error is the answer.
        """
        import duckdb

        def ask(query: str, cursor: Any) -> tuple[tuple[str, ...], Rows, Any] | QueryError:
            try:
                cursor.execute(query)
                rows = cursor.fetchmany(2)
                if len(rows) > 1:  # seldom: planning to sort nothing is what most rules would spend their time on
                    cursor.execute(f"from ({query}) order by all")
                    rows = cursor.fetchmany(_ROWS_AT_ONCE)
                return tuple(name for name, *_ in cursor.description), rows, cursor
            except duckdb.Error as error:
                return QueryError(str(error).partition("\n")[0])

        for _, answer in ahead(ask, queries, self._con.cursor):
            yield answer if isinstance(answer, QueryError) else (answer[0], _all(*answer[1:]))


def _all(rows: Rows, cursor: Any) -> Iterator[Rows]:
    while rows:
        yield rows
        rows = cursor.fetchmany(_ROWS_AT_ONCE)
