"""P and Q against their definitions, and every loss that they can make good."""

from __future__ import annotations

import random
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.synthetic import slow_parity

from btrimg.errors import DeviceError
from btrimg.volume.parity import column_at_fault, compute_p, compute_q, rebuild

ROWS = st.integers(1, 40).flatmap(
    lambda length: st.lists(st.binary(min_size=length, max_size=length), min_size=1, max_size=9)
)


@given(ROWS)
def test_p_and_q_are_as_defined(data: list[bytes]) -> None:
    assert (compute_p(data), compute_q(data)) == slow_parity(data)


@given(ROWS)
def test_any_two_lost_columns_come_back(data: list[bytes]) -> None:
    whole = [*data, *slow_parity(data)]
    for lost in combinations(range(len(whole)), 2):
        *known, p, q = (None if number in lost else column for number, column in enumerate(whole))
        assert rebuild(known, p, q) == data, lost


@given(ROWS, st.data())
def test_the_one_column_that_is_wrong_is_found(data: list[bytes], draw: st.DataObject) -> None:
    p, q = slow_parity(data)
    wrong = draw.draw(st.integers(0, len(data) - 1))
    change = draw.draw(st.binary(min_size=len(p), max_size=len(p)).filter(any))
    changed = [bytes(a ^ b for a, b in zip(column, change, strict=True)) for column in data]
    assert column_at_fault([*data[:wrong], changed[wrong], *data[wrong + 1 :]], p, q) == wrong


def test_two_wrong_columns_are_not_taken_for_one() -> None:
    data = [random.Random(number).randbytes(16) for number in range(5)]
    p, q = slow_parity(data)
    assert column_at_fault([data[2], data[1], data[3], *data[3:]], p, q) is None
    assert column_at_fault([data[1], data[0], *data[2:]], p, q) is None, "P adds up"


@given(ROWS)
def test_raid5_has_no_q(data: list[bytes]) -> None:
    for lost in range(len(data)):
        known = [None if number == lost else column for number, column in enumerate(data)]
        assert rebuild(known, slow_parity(data)[0], None) == data


def test_the_widest_raid6_comes_back() -> None:
    data = [random.Random(number).randbytes(16) for number in range(255)]
    p, q = slow_parity(data)
    for lost in ((0, 254), (0, 1), (100, 253)):
        assert rebuild([None if number in lost else column for number, column in enumerate(data)], p, q) == data


@pytest.mark.parametrize(
    ("known", "p", "q"),
    [([None, None], b"p", None), ([None, None, None], b"p", b"q"), ([None, b"d"], None, None)],
    ids=["two with P", "three with both", "one with none"],
)
def test_more_than_parity_can_bring_back(known: list[bytes | None], p: bytes | None, q: bytes | None) -> None:
    with pytest.raises(DeviceError, match=f"{known.count(None)} data columns"):
        rebuild(known, p, q)
