"""Batches of columns as DuckDB reads them."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING, Any

import duckdb
import numpy as np
import pytest

from btrimg.filesystem import strings
from btrimg.tables import arrow
from btrimg.tables.arrow import ArrowRows
from btrimg.tables.relation import SQL_TYPES, Column, i64, text, u8, u16, u32, u64

if TYPE_CHECKING:
    from collections.abc import Iterator

COLUMNS = (
    u64("a", "most"),
    u32("b", "some"),
    u16("c", "few"),
    u8("d", "least"),
    i64("e", "signed"),
    Column("f", "?", "yes or no"),
    text("g", "text"),
    text("h", "one of", "", "one", "zwölf, which is longer than twelve bytes"),
    Column("i", "bytes", "anything"),
)
ROWS = [
    ((1 << 64) - 1, (1 << 32) - 1, 65535, 255, -(1 << 63), True, "naïve \0 text", COLUMNS[7].words[2], b"\xff\0\xfe"),
    (0, 1, 2, 3, 4, False, "", "", b""),
    (5, 6, 7, 8, -9, True, "x" * 5000, "one", bytes(range(256))),
]


def batch_of(rows: list[tuple[Any, ...]]) -> list[Any]:
    batch: list[Any] = []
    for column, values in zip(COLUMNS, zip(*rows, strict=True), strict=True):
        if column.words:
            batch.append(np.array([column.words.index(value) for value in values], np.uint8))
        elif column.type in ("text", "bytes"):
            batch.append(strings.of_list([v.encode() if isinstance(v, str) else v for v in values]))
        else:
            batch.append(np.array(values, column.type))
    return batch


def ask(rows: ArrowRows, sql: str) -> list[tuple[Any, ...]]:
    with duckdb.connect() as con:
        con.register("t", rows)
        return con.execute(sql).fetchall()


def test_every_type_comes_as_the_schema_says() -> None:
    found = ask(ArrowRows(COLUMNS, lambda: iter([batch_of(ROWS)])), "describe t")
    assert [row[:2] for row in found] == [(column.name, SQL_TYPES[column.type]) for column in COLUMNS]
    assert {column.type for column in COLUMNS} == set(SQL_TYPES)


def test_rows_of_all_batches_come_in_order_each_time_they_are_asked_for() -> None:
    rows = ArrowRows(COLUMNS, lambda: iter([batch_of(ROWS[:2]), batch_of(ROWS[2:]), batch_of(ROWS)]))
    with duckdb.connect() as con:
        con.register("t", rows)
        for _ in range(2):
            assert con.execute("from t").fetchall() == [*ROWS, *ROWS]
        assert con.execute("select count(*) from t x join t y using (g, h, i)").fetchone() == (12,)
        assert con.execute("select h, count(*) from t group by all order by all").fetchall() == [
            ("", 2),
            ("one", 2),
            (COLUMNS[7].words[2], 2),
        ]
    assert ask(ArrowRows(COLUMNS, lambda: iter([])), "select count(*) from t") == [(0,)]


def test_batches_are_made_as_they_are_read() -> None:
    made = []

    def batches() -> Iterator[list[Any]]:
        for number in range(1000):
            made.append(number)
            yield [np.full(10_000, number, np.uint64)]

    assert ask(ArrowRows(COLUMNS[:1], batches), "select a from t limit 1") == [(0,)]
    assert len(made) < 500


def test_nothing_is_copied() -> None:
    batch = batch_of(ROWS)
    for column, values in zip(COLUMNS, batch, strict=True):
        if column.type == "?":
            continue  # a byte there, a bit here
        array = arrow._array_of(column, values)
        parts = values if isinstance(values, strings.Strings) else (values,)
        assert array.buffers[1 : array.n_buffers] == [part.ctypes.data for part in parts], column.name
        array.release(array)


@pytest.mark.parametrize("error", [KeyboardInterrupt("stop"), MemoryError("too much"), ValueError("müll")])
def test_what_making_rows_raises_ends_the_query_and_is_kept(error: BaseException) -> None:
    def batches() -> Iterator[list[Any]]:
        yield batch_of(ROWS)
        raise error

    rows = ArrowRows(COLUMNS, batches)
    with pytest.raises(duckdb.Error, match=str(error)):
        ask(rows, "select sum(a) from t")
    assert rows.failure is error


def test_duckdb_gives_everything_back() -> None:
    before = len(arrow._given), len(arrow._capsules)
    test_rows_of_all_batches_come_in_order_each_time_they_are_asked_for()
    test_batches_are_made_as_they_are_read()
    test_what_making_rows_raises_ends_the_query_and_is_kept(ValueError("x"))
    gc.collect()
    assert (len(arrow._given), len(arrow._capsules)) == before
