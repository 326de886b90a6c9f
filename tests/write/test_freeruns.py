"""Runs of free bytes against a set of numbers."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from btrimg.write import freeruns
from btrimg.write.freeruns import FreeRuns

SEVERAL = 5  # blocks that are neighbours


def runs_of(numbers: set[int]) -> list[tuple[int, int]]:
    starts = sorted(number for number in numbers if number - 1 not in numbers)
    ends = sorted(number + 1 for number in numbers if number + 1 not in numbers)
    return list(zip(starts, ends, strict=True))


def first_fit(numbers: set[int], length: int, align: int = 1) -> int | None:
    for start, end in runs_of(numbers):
        aligned = -(-start // align) * align
        if aligned + length <= end:
            return aligned
    return None


def many_or_few(numbers: set[int]) -> int | None:
    """Return where blocks of 4 are taken: from the first run of some, else from the first of one."""
    many = first_fit(numbers, SEVERAL * 4, 4)
    return first_fit(numbers, 4, 4) if many is None else many


@pytest.mark.parametrize("full", [4, 512])
@given(seed=st.integers(0, 1 << 32), density=st.sampled_from([0.05, 0.5, 0.9]))
def test_runs_are_those_of_a_set(full: int, seed: int, density: float) -> None:
    """Whatever is taken and added, first fit finds what a search through all numbers finds; with tiny buckets, too."""
    rng = random.Random(seed)
    numbers = {number for number in range(200) if rng.random() < density}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(freeruns, "_FULL", full)
        patch.setattr(freeruns, "_NEIGHBOURS", SEVERAL)
        runs = FreeRuns(runs_of(numbers))
        for _ in range(40):
            _change(rng, runs, numbers)
            assert list(runs) == runs_of(numbers)
            assert runs.total == len(numbers)
            assert runs.longest() == max((end - start for start, end in runs_of(numbers)), default=0)


def _change(rng: random.Random, runs: FreeRuns, numbers: set[int]) -> None:
    length = rng.choice([1, 1, 2, 5, 16])
    what = rng.randrange(4)
    if what == 0:
        start = first_fit(numbers, length)
        assert runs.take_first(length) == start
        if start is not None:
            numbers -= set(range(start, start + length))
    elif what == 1:
        expected: list[int] = []
        while len(expected) < 3 and (start := many_or_few(numbers)) is not None:
            while len(expected) < 3 and set(range(start, start + 4)) <= numbers:
                expected.append(start)
                numbers -= set(range(start, start + 4))
                start += 4
        assert runs.take_blocks(4, 3) == sorted(expected)
    elif what == 2:
        start = rng.randrange(200)
        wanted = set(range(start, start + length))
        assert runs.take(start, length) == (wanted <= numbers)
        if wanted <= numbers:
            numbers -= wanted
    else:
        start = rng.randrange(200)
        wanted = set(range(start, start + length))
        if not wanted & numbers:
            runs.add(start, length)
            numbers |= wanted
