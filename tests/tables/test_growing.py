"""Rows that grow where they stand."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from btrimg.filesystem import strings
from btrimg.filesystem.leafrows import joined
from btrimg.tables.growing import GrowingParts


class Some(NamedTuple):
    number: Any
    name: strings.Strings


def some(rows: list[tuple[int, bytes]]) -> Some:
    return Some(np.array([number for number, _ in rows], np.int64), strings.of_list([name for _, name in rows]))


PARTS = st.lists(
    st.lists(st.tuples(st.integers(-(1 << 63), (1 << 63) - 1), st.binary(max_size=9)), max_size=9), min_size=1
)


@given(PARTS)
def test_rows_are_those_that_joining_makes(parts: list[list[tuple[int, bytes]]]) -> None:
    growing = GrowingParts[Some]()
    for part in parts:
        growing.append(some(part))
    found, expected = growing.join(), joined(list(map(some, parts)))
    assert found.number.tolist() == expected.number.tolist()
    assert found.name.to_list() == expected.name.to_list()


def test_columns_outgrow_their_room() -> None:
    growing = GrowingParts[Some]()
    number = np.arange(100_000)
    for start in range(0, len(number), 7_000):
        part = number[start : start + 7_000]
        growing.append(Some(part.astype("<u4"), strings.decimals(part)))
    found = growing.join()
    assert found.number.dtype == np.dtype("<u4")
    assert np.array_equal(found.number, number)
    assert found.name.to_list() == [b"%d" % each for each in range(100_000)]


def test_what_is_given_is_copied_and_may_be_a_part_of_records() -> None:
    growing = GrowingParts[tuple[Any]]()
    records = np.zeros(3, [("first", "u1"), ("value", "<u8")])
    records["value"] = [5, 6, 7]
    growing.append(Single(records["value"][:0]))
    growing.append(Single(records["value"]))
    records["value"] = 0
    assert growing.join()[0].tolist() == [5, 6, 7]


class Single(NamedTuple):
    value: Any
