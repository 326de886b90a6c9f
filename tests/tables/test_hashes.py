"""Names as numbers."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from btrimg.filesystem import strings
from btrimg.ondisk.csum import crc32c_raw, name_hash
from btrimg.tables.hashes import crcs, fingerprints, mixed, name_hashes, scattered

names = st.lists(st.one_of(st.binary(max_size=12), st.binary(min_size=240, max_size=300)))


@given(names)
def test_the_hash_of_each_name_is_that_of_keys(values: list[bytes]) -> None:
    assert name_hashes(strings.of_list(values).slices()).tolist() == [name_hash(value) for value in values]


@given(names)
def test_equal_names_have_equal_fingerprints_and_others_do_not(values: list[bytes]) -> None:
    values += [value + b"\0" for value in values]
    found = fingerprints(strings.of_list(values).slices()).tolist()
    assert len(set(found)) == len(set(values))
    assert len(set(zip(found, values, strict=True))) == len(set(values))
    assert fingerprints(strings.of_list(values[::-1]).slices()).tolist() == found[::-1]


def test_a_fingerprint_depends_on_every_bit() -> None:
    name = bytes(range(40))
    changed = [
        bytes(b ^ (1 << bit) * (at == place) for at, b in enumerate(name)) for place in range(40) for bit in range(8)
    ]
    found = fingerprints(strings.of_list([name, *changed]).slices())
    assert len(set(found.tolist())) == 321


@given(st.integers(0, 300).flatmap(lambda size: st.lists(st.binary(min_size=size, max_size=size), min_size=1)))
def test_the_crcs_of_rows_are_those_of_each(rows: list[bytes]) -> None:
    rows = [row[:255] for row in rows]
    table = np.frombuffer(b"".join(rows), np.uint8).reshape(len(rows), len(rows[0]))
    assert crcs(table, 7).tolist() == [crc32c_raw(7, row) for row in rows]


def test_scattered_numbers_are_those_of_splitmix64() -> None:
    # The first ones of https://prng.di.unimi.it/splitmix64.c from the state 1234567.
    expected = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431]
    assert scattered(1234567, 4).tolist() == expected


@given(st.sets(st.tuples(*[st.integers(0, 3) | st.integers(0, 2**64 - 1)] * 3), min_size=1))
def test_different_rows_are_mixed_to_different_numbers(rows: set[tuple[int, int, int]]) -> None:
    seeds = scattered(7, 6) | np.uint64(1)
    columns = np.array(sorted(rows), np.uint64).reshape(-1, 3).T
    found = mixed(seeds, *columns)
    assert len(set(found.tolist())) == len(rows)
    assert np.array_equal(mixed(seeds, *columns), found)
    assert not np.array_equal(mixed(seeds[::-1], *columns), found)
    before = columns.copy()
    mixed(seeds, mixed(seeds, columns[0]), columns[1])
    assert np.array_equal(columns, before)
