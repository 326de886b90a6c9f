"""Unions of runs of keys against sets, and checksums of many sectors against one at a time."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.fresh import make_empty
from support.images import MIB

from btrimg.errors import ChecksumError
from btrimg.filesystem.image import open_image
from btrimg.pagecache import sums
from btrimg.pagecache.attribution import attribute
from btrimg.pagecache.coverage import cover, grouped
from btrimg.pagecache.filerows import of_image
from btrimg.pagecache.mixing import mix
from btrimg.pagecache.pages import KeyRuns

if TYPE_CHECKING:
    from pathlib import Path

    from btrimg.filesystem.image import Image

#: (kind of key, unit, number, pages, label); kind 1 is the inode's own and 4 an extent's.
RUNS = st.lists(
    st.tuples(
        st.sampled_from([1, 4, 4 | 2 << 8]),
        st.integers(-1, 1),
        st.integers(0, 40),
        st.integers(1, 30),
        st.integers(0, 3),
    ),
    max_size=30,
)


def columns(runs: list[tuple[int, int, int, int, int]]) -> tuple[KeyRuns, np.ndarray]:
    space, unit, number, pages, label = np.array(runs, np.int64).reshape(-1, 5).T
    zeros = np.zeros(len(runs), np.int64)
    return KeyRuns(zeros, zeros, pages, space, unit, number, zeros.astype(np.uint8), zeros), label


@given(RUNS)
def test_what_runs_cover(runs: list[tuple[int, int, int, int, int]]) -> None:
    # What is an inode's own is in one run.
    runs = [run if run[0] != 1 else (1, at, *run[2:]) for at, run in enumerate(runs)]
    users: dict[tuple[int, int, int], list[int]] = {}
    for space, unit, number, pages, label in runs:
        for key in range(number, number + pages):
            users.setdefault((space, unit, key), []).append(label)
    found = cover(*columns(runs))
    assert found.total == len(users)
    assert found.by_label(4) == [sum(min(labels) == label for labels in users.values()) for label in range(4)]
    expected = Counter(map(len, users.values()))
    counts: Counter[int] = Counter()
    for pages, several in zip(found.pages.tolist(), found.runs.tolist(), strict=True):
        counts[several] += pages
    assert counts == expected


@given(RUNS)
def test_groups_are_runs_of_the_very_same_keys(runs: list[tuple[int, int, int, int, int]]) -> None:
    found = grouped(*columns(runs))
    groups = [
        sorted(found.order[start:end].tolist()) for start, end in zip(found.start[:-1], found.start[1:], strict=True)
    ]
    by_key: dict[tuple[int, ...], list[int]] = {}
    for at, run in enumerate(runs):
        by_key.setdefault(run[:4], []).append(at)
    assert groups == [by_key[key] for key in sorted(by_key)]
    assert [runs[at][4] for at in found.chosen] == [min(runs[at][4] for at in group) for group in groups]


@given(RUNS)
def test_whose_the_keys_of_runs_are(runs: list[tuple[int, int, int, int, int]]) -> None:
    users: dict[tuple[int, int, int], set[int]] = {}
    for space, unit, number, pages, label in runs:
        for key in range(number, number + pages):
            users.setdefault((space, unit, key), set()).add(label)
    found = attribute(*columns(runs), 4)
    of_each = [[labels for labels in users.values() if label in labels] for label in range(4)]
    assert found.used == [len(several) for several in of_each]
    assert found.freed == [sum(labels == {label} for labels in several) for label, several in enumerate(of_each)]
    assert found.proportional == pytest.approx([sum(1 / len(labels) for labels in several) for several in of_each])


@pytest.fixture(scope="module")
def demo(demo_image: str) -> Image:
    return open_image(demo_image)


@pytest.mark.parametrize("few", [0, 1 << 30])
def test_where_there_are_no_checksums_none_is_known(few: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sums, "_FEW", few)
    make_empty(str(tmp_path / "empty"), 80 * MIB)
    with open_image(str(tmp_path / "empty")) as image:
        found = sums.lookup(image, np.array([0, 1 << 40]), np.array([1, 2]))
    assert found.known.tolist() == [False] * 3
    assert not found.sums.any()


@pytest.mark.parametrize("few", [0, 1 << 30])
def test_checksums_of_many_sectors(demo: Image, few: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sums, "_FEW", few)
    rows = of_image(demo).extents
    stored = np.flatnonzero(rows.extent_logical > 0)
    start, length = rows.extent_logical[stored], rows.extent_length[stored]
    found = sums.lookup(demo, start, length // 4096)
    at = unknown = 0
    for logical, size in zip(start.tolist(), length.tolist(), strict=True):
        for address in range(logical, logical + size, 4096):
            try:
                expected = demo.csums.lookup(address, 4096)
                assert found.known[at]
                assert found.sums[at].tobytes() == expected
            except ChecksumError:
                assert not found.known[at]
                unknown += 1
            at += 1
    assert at == len(found.known) > 1000
    assert unknown > 0


def test_the_words_of_a_checksum_tell_it_apart() -> None:
    data = np.array([[1, 0, 0, 0], [0, 1, 0, 0], [255, 255, 255, 255]], np.uint8)
    assert [word.tolist() for word in sums.Sums(data, np.ones(3, np.bool_)).words()] == [[1, 256, 0xFFFFFFFF]]
    wide = np.arange(32, dtype=np.uint8).reshape(1, 32)
    words = sums.Sums(wide, np.ones(1, np.bool_)).words()
    assert [int(word[0]).to_bytes(8, "little") for word in words] == [bytes(range(at, at + 8)) for at in (0, 8, 16, 24)]


def test_the_hash_is_the_same_everywhere() -> None:
    # SplitMix64 of seed 0 begins with these (as java.util.SplittableRandom's algorithm does).
    zero = np.zeros(1, np.int64)
    assert int(mix(zero).view(np.uint64)[0]) == 0xE220A8397B1DCDAF
    assert int(mix(zero, seed=0x9E3779B97F4A7C15).view(np.uint64)[0]) == 0x6E789E6AA1B965F4
    one, two = np.array([1]), np.array([2])
    assert len({int(each[0]) for each in (mix(one), mix(two), mix(one, two), mix(two, one), mix(one, one))}) == 5
