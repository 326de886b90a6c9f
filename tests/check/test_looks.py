"""Looks held against the queries that they stand before: what a look sees nothing in, DuckDB finds nothing in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import duckdb
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.stores import kept_store

from btrimg.check.derived import asked, derived, make, needed, words_of
from btrimg.check.looks.named import LOOKS
from btrimg.check.looks.rows import Rows, ordered, pairs
from btrimg.check.makers import CREATED
from btrimg.check.rule import rules
from btrimg.filesystem import strings
from btrimg.filesystem.strings import Strings
from btrimg.tables.build import objects_of
from btrimg.tables.database import connect
from btrimg.tables.leafscan import Gathered
from btrimg.tables.native import create_empty, create_table, fill, type_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray
    from support.stores import KeptStore

    Columns = dict[str, NDArray[Any]]
    Base = Callable[[str], Sequence[str]]

#: Columns that stay: with other numbers no image is opened; and what follows from others, here from flags.
FIXED = {"sectorsize", "nodesize", "csum_type", "profile", "holds"}
QUERIES = {name: each.query for name, each in derived().items()} | {code: each.query for code, each in rules().items()}


class Table(NamedTuple):
    """A relation as rows that can be changed: text as objects, words as their indexes."""

    like: Gathered | None
    columns: Columns
    more: tuple[str, ...]  #: names of those that are not declared

    @property
    def height(self) -> int:
        """Return how many rows there are."""
        return len(next(iter(self.columns.values())))

    def rows(self) -> Rows:
        """Return what a look sees."""
        return Rows(self.columns) if self.like is None else Rows.of(self._gathered(), self._more())

    def put(self, con: Any, name: str) -> None:
        """Put the rows into a database."""
        if self.like is not None:
            create_table(con, self._gathered(), **self._more())
        elif self.height:
            fill(con, name, self.columns)
        else:
            create_empty(con, name, {column: type_of(values) for column, values in self.columns.items()})

    def _more(self) -> Columns:
        return {name: self.columns[name] for name in self.more}

    def _gathered(self) -> Gathered:
        assert self.like is not None
        relation = self.like.relation
        tree = self.columns[relation.tree.name] if relation.tree else np.empty(0, np.uint64)
        different: dict[str, Any] = {column.name: self.columns[column.name] for column in relation.columns}
        for name, values in different.items():
            if values.dtype == object:
                different[name] = strings.of_list([value.encode() for value in values])
        return Gathered(relation, different, np.arange(self.height), tree)


def tables_of(store: KeptStore) -> dict[str, Table]:
    """Return all that was put into a store."""
    found = {name: Table(None, columns, ()) for name, columns in store.columns.items()}
    for name, (gathered, more) in store.gathered.items():
        columns: Columns = {}
        for column in gathered.relation.columns:
            values = gathered.different[column.name]
            if isinstance(values, Strings):
                columns[column.name] = objects_of(column, values)[gathered.rows]
            else:
                columns[column.name] = values[gathered.rows]
        if gathered.relation.tree:
            columns[gathered.relation.tree.name] = gathered.trees
        found[name] = Table(gathered, columns | more, tuple(more))
    return found


class World(NamedTuple):
    """What one image has, in memory and in a database."""

    tables: Mapping[str, Table]
    con: Any

    def __repr__(self) -> str:
        return "a world"  # all that is in it takes long to be shown


def world_of(devices: Sequence[str]) -> World:
    tables = tables_of(kept_store(devices))
    con = connect(threads=1)
    for name, table in tables.items():
        table.put(con, name)
    return World(tables, con)


@pytest.fixture(scope="module")
def demo(demo_image: str) -> World:
    return world_of([demo_image])


@pytest.fixture(scope="module", params=["rich", "raid"])
def written_by_kernel(request: pytest.FixtureRequest, base_image: Base) -> World:
    return world_of(base_image(request.param))


def reached(query: str) -> set[str]:
    """Return the relations that a query reads in the end."""
    return asked([query]).words & CREATED - {"known_names"}  # which are the same for all images


class Edit(NamedTuple):
    """What is done to one relation, in numbers of any size."""

    relation: int
    row: int
    column: int
    another: int  #: row
    what: int
    value: int


EDITS = st.lists(st.builds(Edit, *[st.integers(0, 1 << 20)] * len(Edit._fields)), min_size=1, max_size=2)
TEXTS = ("", "..", "sound", "bad", "root_ref", "received", "default")


def changed(table: Table, edit: Edit, words: set[str]) -> Table:
    """Return a relation with one row more or less, or one value changed that a query may look at."""
    columns = dict(table.columns)
    row, another = edit.row % table.height, edit.another % table.height
    if edit.what % 8 < 2:
        every = np.arange(table.height)
        kept = np.insert(every, row, row) if edit.what % 8 else np.delete(every, row)
        return table._replace(columns={name: values[kept] for name, values in columns.items()})
    names = sorted(columns.keys() & words - FIXED) or sorted(columns.keys() - FIXED)
    name = names[edit.column % len(names)]
    values = columns[name].copy()
    declared = {column.name: column for column in table.like.relation.columns} if table.like else {}
    if values.dtype == object:
        values[row] = (values[another], *TEXTS)[edit.value % (1 + len(TEXTS))]
    elif values.dtype == bool:
        values[row] = not values[row]
    elif name in declared and declared[name].words:
        values[row] = edit.value % len(declared[name].words)
    else:
        bits, old = 8 * values.itemsize, int(values[row])
        several = [int(values[another]), old + 1, old - 1, old + 4096, old - 4096, 0, 1, 2, 4, 132, 2 * old, -1]
        several += [old ^ 1 << bit for bit in range(0, bits, 3)]
        new = several[edit.value % len(several)]
        values[row] = np.array([new & (1 << bits) - 1], f"u{values.itemsize}").view(values.dtype)[0]
    columns[name] = values
    return table._replace(columns=columns)


def finds(world: World, name: str, edited: Mapping[str, Table]) -> bool:
    """Return whether the query of a look has rows, or is refused, where some relations are *edited*."""
    con, query = world.con, QUERIES[name]
    con.execute("begin")
    try:
        for relation, table in edited.items():
            con.execute(f"drop table {relation}")
            for column in table.like.relation.columns if table.like else ():
                con.execute(f'drop type if exists "{relation}.{column.name}"')
            table.put(con, relation)
        for each in needed(words_of(query) - {name}):
            if make(con, each):
                return True
        return con.execute(query).fetchone() is not None
    except duckdb.Error:
        return True
    finally:
        con.execute("rollback")


def hold_against_query(name: str, world: World, edits: Sequence[Edit]) -> None:
    read = sorted(relation for relation in reached(QUERIES[name]) if world.tables[relation].height)
    words = asked([QUERIES[name]]).words
    tables = dict(world.tables)
    for edit in edits:
        relation = read[edit.relation % len(read)]
        if tables[relation].height:
            tables[relation] = changed(tables[relation], edit, words)
    edited = {relation: tables[relation] for relation in read if tables[relation] is not world.tables[relation]}
    if tables["superblock"].height == 1 and not LOOKS[name]({each: table.rows() for each, table in tables.items()}):
        assert not finds(world, name, edited), edited.keys()


each_look = pytest.mark.parametrize("name", LOOKS)
SLOWLY = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def test_every_look_is_named_as_what_it_stands_before() -> None:
    assert LOOKS.keys() <= QUERIES.keys()


@each_look
@settings(SLOWLY, max_examples=40)
@given(edits=EDITS)
def test_what_a_look_sees_nothing_in_has_nothing(name: str, demo: World, edits: list[Edit]) -> None:
    hold_against_query(name, demo, edits)


@pytest.mark.kernel
@each_look
@settings(SLOWLY, max_examples=15)
@given(edits=EDITS)
def test_on_an_image_of_the_kernel_too(name: str, written_by_kernel: World, edits: list[Edit]) -> None:
    hold_against_query(name, written_by_kernel, edits)


def doubted(world: World) -> set[str]:
    relations = {name: table.rows() for name, table in world.tables.items()}
    return {name for name, look in LOOKS.items() if look(relations)}


def test_on_a_good_image_looks_see_nothing(demo: World) -> None:
    assert doubted(demo) == {"odd_free_space"}  # heads that mkfs.btrfs left


@pytest.mark.kernel
def test_on_a_good_image_of_the_kernel_they_see_what_only_a_query_can_tell(written_by_kernel: World) -> None:
    assert doubted(written_by_kernel) <= {"odd_inodes", "root-orphan-missing"}  # an orphan


NUMBERS = st.lists(st.integers(0, 40), max_size=12)


@given(NUMBERS, NUMBERS)
def test_ordered_ranges_hold_what_lies_in_one_of_them(cuts: list[int], others: list[int]) -> None:
    sound = np.array(sorted({*cuts})[: len({*cuts}) // 2 * 2], np.uint64).reshape(-1, 2)
    found = ordered(sound[:, 0], sound[:, 1])
    assert found is not None
    start = np.array(others, np.uint64)
    length = np.resize(np.arange(5, dtype=np.uint64), len(start))
    expected = [
        next((at for at, (first, last) in enumerate(sound.tolist()) if first <= each and each + more <= last), -1)
        for each, more in zip(start.tolist(), length.tolist(), strict=True)
    ]
    inside = found.holding(start, start + length)
    assert [at for at, more in zip(inside.tolist(), length.tolist(), strict=True) if more] == [
        at for at, more in zip(expected, length.tolist(), strict=True) if more
    ]


@given(NUMBERS)
def test_ordered_ranges_that_touch_become_one(lengths: list[int]) -> None:
    edges = np.cumsum([0, *(length + 1 for length in lengths)]).astype(np.uint64)
    gaps = np.cumsum(np.resize([0, 0, 7], len(lengths))).astype(np.uint64)
    found = ordered(edges[:-1] + gaps, edges[1:] + gaps)
    assert found is not None
    joined = found.joined()
    inside = {at for start, end in zip(*map(np.ndarray.tolist, found), strict=True) for at in range(start, end)}
    again = [at for start, end in zip(*map(np.ndarray.tolist, joined), strict=True) for at in range(start, end)]
    assert len(again) == len({*again})
    assert {*again} == inside
    assert (joined.start[1:] > joined.end[:-1]).all()


@pytest.mark.parametrize(("start", "end"), [([5, 3], [6, 4]), ([3, 5], [6, 7]), ([3], [2]), ([3], [1 << 63])])
def test_what_is_not_in_order_or_overlaps_or_is_large_is_none(start: list[int], end: list[int]) -> None:
    assert ordered(np.array(start, np.uint64), np.array(end, np.uint64)) is None


IDS = st.sampled_from([5, 256, 257, (1 << 23) - 1, (1 << 64) - 9, (1 << 64) - 256])
INODES = st.sampled_from([0, 256, 257, (1 << 40) - 1])


@given(st.lists(st.tuples(IDS, INODES), min_size=1))
def test_pairs_are_as_different_as_what_they_are_made_of(several: list[tuple[int, int]]) -> None:
    found = pairs(*(np.array(column, np.uint64) for column in zip(*several, strict=True)))
    assert found is not None
    assert len({*zip(found.tolist(), several, strict=True)}) == len({*found.tolist()}) == len({*several})


@pytest.mark.parametrize("pair", [(1 << 23, 256), ((1 << 64) - (1 << 23), 256), (5, 1 << 40), (5, (1 << 64) - 12)])
def test_pairs_of_large_numbers_are_not_told_apart(pair: tuple[int, int]) -> None:
    assert pairs(*(np.array([number], np.uint64) for number in pair)) is None
