"""What rules are asked of: relations in memory, and in DuckDB those that something has to be asked about."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from threading import Lock
from typing import TYPE_CHECKING, Any

from btrimg.check.derived import Derived, make, words_of
from btrimg.check.looks.named import LOOKS
from btrimg.check.looks.rows import Rows
from btrimg.errors import BtrimgError
from btrimg.forked import cores, give_way
from btrimg.named import NamedTuple
from btrimg.tables.database import QueryError, connect, engine
from btrimg.tables.native import create_empty, create_table, fill, type_of
from btrimg.trees.ahead import THREADS, ahead

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from numpy.typing import NDArray

    from btrimg.check.rule import Rule
    from btrimg.tables.leafscan import Gathered

    Fetched = list[tuple[Any, ...]]

_ROWS_AT_ONCE = 10_000
_KEPT_ROWS = 100  #: of a rule's answer, that is not asked for again


class _Answer(NamedTuple):
    """The answer to a query, or how it begins."""

    columns: tuple[str, ...]
    rows: Fetched


class Store:
    """Relations, and what *rules* find in them.

    First it is filled with *relations*, in any order, by any thread. As soon as all is there that a rule reads, itself
    or through what is *derived*, a look tells whether it may find anything. Only for those that may, threads put what
    they read into DuckDB and ask it. After ``settle`` the store can be asked anything.
    """

    def __init__(self, relations: Collection[str], derived: Collection[Derived], rules: Collection[Rule] = ()) -> None:
        self._derived = {each.name: each for each in derived}
        self._known = {*relations, *self._derived}
        self._rows: dict[str, Rows] = {}
        self._create: dict[str, Callable[[Any], object]] = {}  # by relation: makes its table, with a connection
        self._may_have: dict[str, bool] = {}  # by derived relation: whether it may have rows
        reached: dict[str, set[str]] = {}  # by derived relation: what it is made of in the end
        for each in derived:
            reached[each.name] = self._reached(self._read(each), reached)
        #: by rule: what it reads that is not there yet
        self._awaited = {rule: self._reached(self._read(rule), reached) for rule in rules}
        self._answers: dict[str, _Answer] = {}  # by query, where it is short
        self._finding: set[str] = set()  # codes of the rules that find something, or that DuckDB refuses
        self.refused: list[str] = []  # a sentence for each derived relation that DuckDB could not make
        self._adding = Lock()  # of all above
        self._lock = Lock()  # of what follows
        self._con: Any = None
        self._tables: dict[str, Future[None]] = {}  # by relation: when its table is there
        self._filling = Lock()  # of the connection, while a table is filled by it
        self._askers = ThreadPoolExecutor(THREADS, initializer=give_way)
        self._asking: deque[Future[None]] = deque()

    def _read(self, asks: Rule | Derived) -> frozenset[str]:
        return words_of(asks.query) & self._known - {_name(asks)}

    def _reached(self, read: frozenset[str], reached: dict[str, set[str]]) -> set[str]:
        return {*(read - reached.keys())}.union(*(reached[name] for name in read & reached.keys()))

    def create(self, gathered: Gathered, **more: NDArray[Any]) -> None:
        """Add a relation, and truth values *more* behind its columns."""
        create = partial(create_table, gathered=gathered, **more)
        self._add(gathered.relation.name, Rows.of(gathered, more), create)

    def create_from(self, name: str, columns: dict[str, NDArray[Any]]) -> None:
        """Add a relation that has *columns*, text in them as objects."""
        rows = Rows(columns)

        def create(con: Any) -> None:
            if len(rows):
                fill(con, name, columns)
            else:
                create_empty(con, name, {column: type_of(values) for column, values in columns.items()})

        self._add(name, rows, create)

    def _add(self, name: str, rows: Rows, create: Callable[[Any], object]) -> None:
        with self._adding:
            self._rows[name], self._create[name] = rows, create
            for awaited in self._awaited.values():
                awaited.discard(name)
            self._begin()

    def _begin(self) -> None:
        """Let those rules be asked that wait for nothing any more, and may find something."""
        for rule in [rule for rule, awaited in self._awaited.items() if not awaited]:
            del self._awaited[rule]
            if self._may_find(rule):
                self._asking.append(self._askers.submit(self._ask, rule))

    def _may_find(self, asks: Rule | Derived) -> bool:
        if not any(map(self._may_have_rows, asks.of or self._read(asks))):
            return False
        look = LOOKS.get(_name(asks))
        return look is None or look(self._rows)

    def _may_have_rows(self, relation: str) -> bool:
        if relation not in self._derived:
            return len(self._rows[relation]) > 0
        if relation not in self._may_have:
            self._may_have[relation] = self._may_find(self._derived[relation])
        return self._may_have[relation]

    def _ask(self, rule: Rule) -> None:
        answer = self._answer(rule.query, self._cursor())
        if isinstance(answer, QueryError):
            self._finding.add(rule.code)  # as ``answers`` will tell
        elif answer.rows:
            self._finding.add(rule.code)
            if len(answer.rows) <= _KEPT_ROWS:
                self._answers[rule.query] = answer

    def _answer(self, query: str, cursor: Any) -> _Answer | QueryError:
        """Return the first rows that a query has, which are all if they are few, and its error if it is refused."""
        self._make_tables(words_of(query) & self._known)
        try:
            cursor.execute(query)
            rows = cursor.fetchmany(2)
            if len(rows) > 1:  # seldom: planning to sort nothing is what most rules would spend their time on
                cursor.execute(f"from ({query}) order by all")
                rows = cursor.fetchmany(_ROWS_AT_ONCE)
            return _Answer(tuple(name for name, *_ in cursor.description), rows)
        except engine().Error as error:
            return QueryError(str(error).partition("\n")[0])

    def _make_tables(self, relations: Collection[str]) -> None:
        """Put *relations* into DuckDB, those that are not there; raises what making them raised, here or elsewhere."""
        for name in relations:
            with self._lock:
                there = self._tables.get(name)
                if there is None:
                    made = self._tables[name] = Future()
            if there is not None:
                there.result()
                continue
            try:
                self._make_table(name)
            except BaseException as error:
                made.set_exception(error)
                raise
            made.set_result(None)

    def _make_table(self, name: str) -> None:
        if name not in self._derived:
            with self._filling:
                self._create[name](self._connection())
            return
        self._make_tables(self._read(self._derived[name]))
        if refusal := make(self._cursor(), self._derived[name]):
            self.refused.append(refusal)

    def _connection(self) -> Any:
        with self._lock:
            if self._con is None:
                # Answers are sorted, so rows need not keep their order, and tables are made in half the time. Each
                # query is run by the thread that asks, too, and a processor is left to who fills the store.
                self._con = connect(preserve_insertion_order=False, threads=max(cores() - 1, 1))
            return self._con

    def _cursor(self) -> Any:
        return self._connection().cursor()

    def hurry(self) -> None:
        """Note that what is asked from now on is waited for: before, its threads gave way to who fills the store."""
        before, self._askers = self._askers, ThreadPoolExecutor(THREADS)
        before.shutdown(wait=False)

    def give_up(self) -> None:
        """Let the threads end: nothing more comes."""
        self._askers.shutdown(wait=False, cancel_futures=True)

    def settle(self) -> None:
        """Wait until all rules were asked; raises what asking raised, and BtrimgError for what nobody has made."""
        self._begin()
        while self._asking:
            self._asking.popleft().result()
        self._askers.shutdown()
        if self._awaited:
            codes = ", ".join(sorted(rule.code for rule in self._awaited))
            missing = ", ".join(sorted(set().union(*self._awaited.values())))
            raise BtrimgError(f"{codes} wait for some of {missing}, which nothing has made")
        self.refused.sort()

    def finds(self, rule: Rule) -> bool:
        """Return whether one of the *rules* has something to tell; when all is settled."""
        return rule.code in self._finding

    def answers(self, queries: Sequence[str]) -> Iterator[tuple[tuple[str, ...], Iterator[Fetched]] | QueryError]:
        """Yield for each of *queries*, in order, the names of its columns and its rows, some at once.

        The rows are there until the next answer is asked for. Of a query that numbers on the image make DuckDB refuse,
        as when a sum has more than 64 bits, its error is the answer.
        """

        def ask(query: str, cursor: Any) -> tuple[_Answer | QueryError, Any]:
            return self._answers.get(query) or self._answer(query, cursor), cursor

        for _, (answer, cursor) in ahead(ask, queries, self._cursor):
            if isinstance(answer, QueryError):
                yield answer
            else:
                yield answer.columns, _all(answer.rows, cursor)


def _name(asks: Rule | Derived) -> str:
    return asks.name if isinstance(asks, Derived) else asks.code


def _all(rows: Fetched, cursor: Any) -> Iterator[Fetched]:
    yield rows
    while len(rows) == _ROWS_AT_ONCE:
        rows = cursor.fetchmany(_ROWS_AT_ONCE)
        yield rows
