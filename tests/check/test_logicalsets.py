"""Arithmetic on ranges, against Python's sets of single addresses."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from btrimg.check.scrub.logicalsets import Spans, difference, intersection, union

RANGES = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 12)), max_size=12)


def spans_of(ranges: list[tuple[int, int]]) -> Spans:
    """Return the union of ranges, (start, length)."""
    return union(*(np.array([pair[n] for pair in ranges], np.uint64) for n in (0, 1)))


def members(ranges: list[tuple[int, int]]) -> set[int]:
    """Return all addresses in ranges, (start, length)."""
    return {at for start, length in ranges for at in range(start, start + length)}


def members_of(spans: Spans) -> set[int]:
    """Return all addresses in *spans*, each of which is not empty and starts where the one before it has ended."""
    pairs = list(zip(spans.start.tolist(), spans.end.tolist(), strict=True))
    assert all(start < end for start, end in pairs)
    assert all(one[1] <= other[0] for one, other in pairwise(pairs))
    return {at for start, end in pairs for at in range(start, end)}


@given(RANGES)
def test_a_union_holds_what_one_holds_and_joins_what_touches(ranges: list[tuple[int, int]]) -> None:
    spans = spans_of(ranges)
    assert members_of(spans) == members(ranges)
    assert (spans.start[1:] > spans.end[:-1]).all()
    assert np.flatnonzero(spans.holds(np.arange(80))).tolist() == sorted(members(ranges))


@given(RANGES, RANGES)
def test_intersections_and_differences_are_those_of_sets(
    one: list[tuple[int, int]], other: list[tuple[int, int]]
) -> None:
    assert members_of(intersection(spans_of(one), spans_of(other))) == members(one) & members(other)
    assert members_of(difference(spans_of(one), spans_of(other))) == members(one) - members(other)


def test_what_lies_beyond_every_chunk_is_left_out() -> None:
    top = 1 << 63
    logical = np.array([top - 10, top, (1 << 64) - 5, 7], np.uint64)
    length = np.array([100, 5, 20, (1 << 64) - 1], np.uint64)
    assert [column.tolist() for column in union(logical, length)] == [[7], [top - 1]]
