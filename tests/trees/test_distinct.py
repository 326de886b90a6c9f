"""Different values, against Python's sets."""

from __future__ import annotations

from itertools import groupby

import numpy as np
from hypothesis import given
from hypothesis import strategies as some

from btrimg.trees.distinct import among, different, numbered, runs, segments

VALUES = some.lists(some.integers(0, 9))


@given(some.lists(some.integers(-9, 9)))
def test_different_values_come_in_order(values: list[int]) -> None:
    assert different(np.array(values, np.int64)).tolist() == sorted(set(values))


@given(VALUES, VALUES)
def test_values_are_among_others_or_not(values: list[int], others: list[int]) -> None:
    found = among(np.array(values, np.int64), np.array(others, np.int64))
    assert found.tolist() == [value in others for value in values]


UNSIGNED = some.lists(some.integers(0, 99) | some.integers(2**64 - 9, 2**64 - 1), max_size=30)


@given(UNSIGNED, some.lists(some.integers(0, 120)) | UNSIGNED)
def test_it_makes_no_difference_whether_a_table_is_made(values: list[int], others: list[int]) -> None:
    found = among(np.array(values, np.uint64), np.array(others, np.uint64))
    assert found.tolist() == [value in others for value in values]


@given(VALUES, some.sampled_from([10, 11, 1 << 40]))
def test_values_are_numbered_in_their_order_whatever_the_limit(values: list[int], limit: int) -> None:
    found, which = numbered(np.array(values, np.int64), limit)
    assert found.tolist() == sorted(set(values))
    assert [found[number] for number in which] == values


@given(VALUES)
def test_runs_are_those_of_equal_neighbours(values: list[int]) -> None:
    column = np.array(values, np.int64)
    begins, run = runs(column)
    ends = [*begins.tolist()[1:], len(values)]
    assert segments(column) == (list(zip(begins.tolist(), ends, strict=True)) if values else [])
    assert column[begins].tolist() == [value for value, _ in groupby(values)]
    assert run.tolist() == [number for number, (_, each) in enumerate(groupby(values)) for _ in each]
