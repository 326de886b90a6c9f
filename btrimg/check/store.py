"""The database that rules are run in: filled by threads of its own while relations are made, then asked by several."""

from __future__ import annotations

from collections import deque
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from queue import SimpleQueue
from threading import Lock, Semaphore, Thread
from typing import TYPE_CHECKING, Any

from btrimg.check.derived import Derived, Made, make, words_of
from btrimg.errors import BtrimgError
from btrimg.forked import cores, give_way
from btrimg.tables.database import QueryError, connect, engine
from btrimg.tables.memory import give_back
from btrimg.tables.native import create_empty, create_table, fill, type_of
from btrimg.trees.ahead import THREADS, ahead

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence
    from concurrent.futures import Future

    from numpy.typing import NDArray

    from btrimg.check.rule import Rule
    from btrimg.tables.leafscan import Gathered

    Task = Callable[[Any], object]  # takes the connection
    Rows = list[tuple[Any, ...]]

_ROWS_AT_ONCE = 10_000
_DATABASE = ""  # stands for the database among names of relations
MANY = 130_000  # rows: the memory that making them took is worth giving back


class Store:
    """Relations in DuckDB. DuckDB works outside Python's lock, so what fills it need not keep the caller waiting.

    First it is filled with *relations*, in any order. Those that are *derived* are made by other threads, each as soon
    as all is there that it is made of, and so it is seen which *rules* find anything. After ``settle`` it is asked.
    """

    def __init__(self, relations: Collection[str], derived: Collection[Derived], rules: Collection[Rule] = ()) -> None:
        self._tasks: SimpleQueue[tuple[str, int, Task] | None] = SimpleQueue()
        self._large = Semaphore(1)  # of those with many rows none waits: it would hold memory
        self._con: Any = None
        self._error: BaseException | None = None
        self.refused: list[str] = []  # a sentence for each derived relation that DuckDB could not make
        self._tables: set[str] = set()
        self._empty: set[str] = set()  # those of them without rows
        self._lock = Lock()  # of what follows
        awaited = {*relations, *(each.name for each in derived), _DATABASE}
        #: what is to be made or tried, with the names of what has to be there before and is not yet
        self._waiting: dict[Derived | Rule, set[str]] = {}
        for relation in derived:
            self._waiting[relation] = awaited & {*words_of(relation.query), _DATABASE} - {relation.name}
        for rule in rules:
            self._waiting[rule] = awaited & {*words_of(rule.query), _DATABASE}
        self._waiters: dict[str, list[Derived | Rule]] = {name: [] for name in awaited}  # by what they wait for
        for each, names in self._waiting.items():
            for name in names:
                self._waiters[name].append(each)
        self._finding: set[str] = set()  # codes of the rules that find something, or that DuckDB refuses
        self._makers = ThreadPoolExecutor(THREADS, initializer=give_way)
        self._making: deque[Future[None]] = deque()
        self._thread = Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            # Answers are sorted, so rows need not keep their order, and tables are made in half the time. A processor
            # is left to those who fill the tables and ask: each query is run by the thread that asks, too.
            self._con = connect(preserve_insertion_order=False, threads=max(cores() - 1, 1))
            with self._lock:
                self._begin(_DATABASE)
            while task := self._tasks.get():
                name, rows, create = task
                create(self._con)
                del task, create  # and their columns
                if rows > MANY:
                    self._large.release()
                    give_back()
                self._is_there(name, rows)
        except BaseException as error:  # raised where it is waited for
            self._error = error
            self._large.release(MANY)  # nobody shall wait for what does not come

    def _is_there(self, name: str, rows: int) -> None:
        """Note that a relation is there, and let those be made for which nothing else was awaited."""
        with self._lock:
            self._note(name, rows)
            self._begin(name)

    def _begin(self, name: str) -> None:
        for each in self._waiters.pop(name, ()):
            self._waiting[each].remove(name)
            if self._waiting[each]:
                continue
            del self._waiting[each]
            if isinstance(each, Derived):
                self._making.append(self._makers.submit(self._make, each))
            # Most rules are about what is wrong, and on a sound image there is nothing in what they read.
            elif not self.silent(each.query, each.of):
                self._making.append(self._makers.submit(self._try, each))

    def _make(self, relation: Derived) -> None:
        # What is not made is not missed: whoever reads it is silent, too.
        silent = relation.of and self.silent(relation.query, relation.of)
        made = Made(relation.name, 0) if silent else make(self._con.cursor(), relation)
        if made.refusal:
            self.refused.append(made.refusal)
        self._is_there(made.name, made.rows)

    def _try(self, rule: Rule) -> None:
        try:
            finds = self._con.cursor().execute(rule.query).fetchone()
        except engine().Error:
            finds = True  # as ``answers`` will tell
        if finds:
            self._finding.add(rule.code)

    def finds(self, rule: Rule) -> bool:
        """Return whether one of the *rules* has something to tell; when all is settled."""
        return rule.code in self._finding

    def _later(self, name: str, rows: int, create: Task) -> None:
        """Let *create* make a table when those before it are done; one with many rows waits here for others like it."""
        self._note(name, rows)
        if rows > MANY:
            self._large.acquire()
        self._tasks.put((name, rows, create))

    def create(self, gathered: Gathered, **more: NDArray[Any]) -> None:
        """Create the table of a relation, as ``create_table`` does."""
        create = partial(create_table, gathered=gathered, **more)
        self._later(gathered.relation.name, len(gathered.rows), create)

    def create_from(self, name: str, columns: dict[str, NDArray[Any]]) -> None:
        """Create a table of *columns*, text in them as objects."""
        rows = len(next(iter(columns.values())))

        def create(con: Any) -> None:
            if rows:
                fill(con, name, columns)
            else:
                create_empty(con, name, {column: type_of(values) for column, values in columns.items()})

        self._later(name, rows, create)

    def create_view(self, name: str, query: str) -> None:
        """Create a view; a rule that reads it reads tables without rows when those of the *query* have none."""
        self._later(name, 0 if self.silent(query) else 1, lambda con: con.execute(f"create view {name} as {query}"))

    def hurry(self) -> None:
        """Note that what is derived from now on is waited for: before, its threads gave way to who fills the store."""
        with self._lock:
            before, self._makers = self._makers, ThreadPoolExecutor(THREADS)
        before.shutdown(wait=False)

    def give_up(self) -> None:
        """Let the threads end: nothing more comes."""
        self._tasks.put(None)
        self._makers.shutdown(wait=False, cancel_futures=True)

    def settle(self) -> None:
        """Wait until all is there; raises what making it has raised, and BtrimgError for what nobody has made."""
        self._tasks.put(None)
        self._thread.join()
        if self._error:
            raise self._error
        while self._making:  # each adds those that it was awaited for
            self._making.popleft().result()
        self._makers.shutdown()
        waiting = self._waiting.items()
        left = {each.name if isinstance(each, Derived) else each.code: missing for each, missing in waiting}
        if left:
            names, missing = (", ".join(sorted(some)) for some in (left, set().union(*left.values())))
            raise BtrimgError(f"{names} wait for some of {missing}, which nothing has made")
        self.refused.sort()

    def _note(self, name: str, rows: int) -> None:
        self._tables.add(name)
        if not rows:
            self._empty.add(name)

    def silent(self, query: str, of: Collection[str] = ()) -> bool:
        """Return whether all tables that a *query* is *of*, or else all that it reads, are without rows."""
        return (set(of) or words_of(query) & self._tables) <= self._empty

    def answers(self, queries: Sequence[str]) -> Iterator[tuple[tuple[str, ...], Iterator[Rows]] | QueryError]:
        """Yield for each of *queries*, in order, the names of its columns and its rows, some at once.

        The rows are there until the next answer is asked for. Of a query that numbers on the image make DuckDB refuse,
        as when a sum has more than 64 bits, its error is the answer.
        """
        refusal = engine().Error

        def ask(query: str, cursor: Any) -> tuple[tuple[str, ...], Rows, Any] | QueryError:
            try:
                cursor.execute(query)
                rows = cursor.fetchmany(2)
                if len(rows) > 1:  # seldom: planning to sort nothing is what most rules would spend their time on
                    cursor.execute(f"from ({query}) order by all")
                    rows = cursor.fetchmany(_ROWS_AT_ONCE)
                return tuple(name for name, *_ in cursor.description), rows, cursor
            except refusal as error:
                return QueryError(str(error).partition("\n")[0])

        for _, answer in ahead(ask, queries, self._con.cursor):
            yield answer if isinstance(answer, QueryError) else (answer[0], _all(*answer[1:]))


def _all(rows: Rows, cursor: Any) -> Iterator[Rows]:
    while rows:
        yield rows
        rows = cursor.fetchmany(_ROWS_AT_ONCE)
