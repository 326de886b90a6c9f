"""Payloads of several structures taken apart: as one who walks through each of them would."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from btrimg.tables.entries import pieces

Walked = tuple[list[tuple[int, int, int]], set[int]]


def size_of(data: np.ndarray, position: np.ndarray, left: np.ndarray) -> np.ndarray:
    """Return what the first byte of each structure says; 0, for one that must have two bytes, where there is one."""
    return np.where(left > 1, data[position].astype(np.int64), 0)


def walked(data: bytes, payloads: list[tuple[int, int]]) -> Walked:
    found, cut = [], set()
    for number, (at, left) in enumerate(payloads):
        while left:
            size = data[at] if left > 1 else 0
            if not 0 < size <= left:
                cut.add(number)
                break
            found.append((number, at, size))
            at, left = at + size, left - size
    return found, cut


# Some payloads have many structures, so that few are left after some rounds.
STRUCTURES = st.lists(st.integers(2, 9).map(lambda size: bytes([size]) + b"\xff" * (size - 1)), max_size=4)
MANY = st.lists(st.sampled_from([b"\x02\xff", b"\x03\xff\xff"]), max_size=60)
TAIL = st.sampled_from([b"", b"", b"", b"\x00\xff", b"\x05\xff\xff", b"\xff"])
PAYLOADS = st.lists(st.tuples(STRUCTURES | MANY, TAIL).map(lambda each: b"".join(each[0]) + each[1]), max_size=24)


@given(PAYLOADS)
def test_structures_are_those_that_one_meets_who_walks_through_each_payload(payloads: list[bytes]) -> None:
    data = b"".join(payloads) + b"\xff"
    length = np.array([len(payload) for payload in payloads], np.int64)
    position = np.cumsum(length) - length
    found = pieces(np.frombuffer(data, np.uint8), position, length, size_of)
    expected, cut = walked(data, list(zip(position.tolist(), length.tolist(), strict=True)))
    assert list(zip(found.number.tolist(), found.position.tolist(), found.size.tolist(), strict=True)) == expected
    assert sorted(found.cut.tolist()) == sorted(cut)
