"""Every inode of every subvolume has one number, and the number leads back to it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from btrimg.mount.numbers import File, Numbers
from btrimg.mount.wire import ROOT

ids = st.one_of(st.just(5), st.integers(256, 300), st.integers(1, 2**64 - 1))
files = st.tuples(ids, st.one_of(st.integers(0, 300), st.integers(2**39, 2**41), st.integers(0, 2**64 - 1)))


@given(st.lists(files, min_size=1), st.sampled_from([5, 256, 2**63]))
def test_numbers_lead_back_and_differ(wanted: list[tuple[int, int]], start: int) -> None:
    numbers = Numbers(start, 256)
    given_out = {pair: numbers.number(*pair) for pair in wanted}
    assert len(set(given_out.values())) == len(given_out)
    for (subvolume, ino), number in given_out.items():
        assert 0 < number < 1 << 64
        assert numbers.file(number) == File(subvolume, ino)
        assert numbers.number(subvolume, ino) == number
        base, plain = numbers.plain(subvolume)
        assert ino not in plain or base + ino == number
        assert (number == ROOT) == ((subvolume, ino) == (start, 256))


@given(st.lists(st.tuples(ids, st.integers(1, 2**64 - 1), st.binary(min_size=1, max_size=9))))
def test_each_missing_subvolume_is_a_directory_of_its_own(places: list[tuple[int, int, bytes]]) -> None:
    numbers = Numbers(5, 256)
    found = {place: numbers.placeholder(*place) for place in places}
    assert len(set(found.values())) == len(found)
    assert all(numbers.file(number)[2:] == place[1:] for place, number in found.items())


def test_the_subvolume_that_is_mounted_has_the_kernels_numbers() -> None:
    numbers = Numbers(5, 256)
    assert numbers.number(5, 257) == 257
    assert numbers.shown(numbers.number(5, 256)) == 256
    assert numbers.number(258, 257) == 258 << 40 | 257
