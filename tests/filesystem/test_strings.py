"""Columns of byte strings against lists of them."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from btrimg.filesystem import strings

names = st.lists(st.binary(max_size=40), min_size=1)


@given(names)
def test_a_column_gives_back_its_strings(values: list[bytes]) -> None:
    column = strings.of_list(values)
    assert column.rows == len(values)
    assert column.to_list() == values
    assert [column.decode(number) for number in range(len(values))] == values


@given(st.lists(names, max_size=5))
def test_columns_are_joined_end_to_end(parts: list[list[bytes]]) -> None:
    joined = strings.concatenate([strings.of_list(part) for part in parts])
    assert joined.to_list() == [value for part in parts for value in part]


@given(names, names, st.data())
def test_join_puts_a_slash_between(left: list[bytes], right: list[bytes], data: st.DataObject) -> None:
    pairs = data.draw(st.lists(st.tuples(st.integers(0, len(left) - 1), st.integers(0, len(right) - 1))))
    index = np.array(pairs, np.int64).reshape(-1, 2)
    joined = strings.join(strings.of_list(left), index[:, 0], strings.of_list(right), index[:, 1])
    assert joined.to_list() == [left[i] + b"/" + right[j] for i, j in pairs]


@given(names, st.lists(st.binary(max_size=3) | st.none(), max_size=5), st.data())
def test_glue_puts_parts_one_behind_the_other(
    values: list[bytes], parts: list[bytes | None], data: st.DataObject
) -> None:
    """A part that is None stands for one that differs from string to string."""
    picks = [data.draw(st.integers(0, len(values) - 1)) for _ in range(data.draw(st.integers(0, 4)))]
    column = (strings.of_list(values), np.array(picks, np.int64))
    glued = strings.glue(column, *(column if part is None else part for part in parts))
    assert glued.to_list() == [
        b"".join(values[pick] if part is None else part for part in (None, *parts)) for pick in picks
    ]


@given(st.lists(st.integers(0, (1 << 64) - 1) | st.integers(0, 10_001)))
def test_decimals_are_those_of_each_number(values: list[int]) -> None:
    assert strings.decimals(np.array(values, np.uint64)).to_list() == [b"%d" % value for value in values]


def test_glue_takes_strings_of_any_length() -> None:
    column = strings.of_list([b"x" * 70_000, b"", b"y" * 65_536])
    assert strings.glue(b"<", (column, np.array([2, 0, 1])), b">").to_list() == [
        *(b"<" + column.decode(number) + b">" for number in (2, 0, 1))
    ]


@given(st.binary(max_size=200), st.data())
def test_cut_takes_ranges_that_may_overlap(whole: bytes, data: st.DataObject) -> None:
    bounds = st.tuples(st.integers(0, len(whole)), st.integers(0, len(whole)))
    ranges = [(min(pair), max(pair)) for pair in data.draw(st.lists(bounds))]
    start = np.array([first for first, _ in ranges], np.int64)
    length = np.array([end - first for first, end in ranges], np.int64)
    column = strings.cut(np.frombuffer(whole, np.uint8), start, length)
    assert column.to_list() == [whole[first:end] for first, end in ranges]


def test_the_longest_string_is_copied_whole() -> None:
    column = strings.join(
        strings.of_list([b"x" * 65279]), np.zeros(2, np.int64), strings.of_list([b"y" * 255, b""]), np.arange(2)
    )
    assert column.to_list() == [b"x" * 65279 + b"/" + b"y" * 255, b"x" * 65279 + b"/"]
