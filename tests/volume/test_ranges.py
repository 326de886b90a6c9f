"""Sets of addresses as ranges, against sets."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from btrimg.volume.ranges import Ranges

spans = st.tuples(st.integers(0, 60), st.integers(0, 20))


@given(st.lists(spans, max_size=12))
def test_ranges_are_sets(added: list[tuple[int, int]]) -> None:
    ranges, known = Ranges(), set[int]()
    for start, length in added:
        wanted = {*range(start, start + length)}
        assert [at for span in ranges.missing(start, start + length) for at in range(*span)] == sorted(wanted - known)
        ranges.add(start, start + length)
        known |= wanted
        held = list(ranges)
        assert [at for span in held for at in range(*span)] == sorted(known)
        assert all(before[1] < after[0] for before, after in pairwise(held))


def test_a_set_may_grow_by_what_it_is_told_to_miss() -> None:
    ranges = Ranges()
    ranges.add(10, 20)
    ranges.add(30, 40)
    for start, end in ranges.missing(0, 50):
        ranges.add(start, end)
    assert list(ranges) == [(0, 50)]
