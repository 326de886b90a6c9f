"""What can be told afterwards: reuse distances against LRU itself, Belady against all that could have been done."""

from __future__ import annotations

from functools import cache
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from btrimg.pagecache.eviction import POLICIES
from btrimg.pagecache.offline import belady, hits_by_size, previous, reuse_distances
from pagecache.test_eviction import WORKLOADS, figures, simulate

few = st.lists(st.integers(0, 7), max_size=30)


def plain_distances(pages: list[int]) -> list[int]:
    """A stack, searched."""
    stack, distances = list[int](), list[int]()
    for page in pages:
        distances.append(stack.index(page) if page in stack else -1)
        stack = [page, *(other for other in stack if other != page)]
    return distances


@given(few)
def test_distances_are_depths_in_the_stack(pages: list[int]) -> None:
    assert reuse_distances(np.array(pages, np.int64)).tolist() == plain_distances(pages)


@pytest.mark.parametrize("length", [255, 256, 257, 511, 513, 3000])
def test_distances_over_several_blocks(length: int) -> None:
    pages = [page % 400 for page in (WORKLOADS["popular"]() + WORKLOADS["runs"]())[11_000 : 11_000 + length]]
    assert reuse_distances(np.array(pages)).tolist() == plain_distances(pages)


def test_distances_where_all_is_turned_round() -> None:
    """Every page again in the same order, and in the opposite one: the longest distances, and all there are."""
    there = np.arange(5000)
    assert set(reuse_distances(np.concatenate((there, there)))[5000:].tolist()) == {4999}
    assert reuse_distances(np.concatenate((there, there[::-1])))[5000:].tolist() == list(range(5000))


@pytest.mark.parametrize("workload", WORKLOADS)
def test_hits_by_size_are_lrus(workload: str) -> None:
    pages = WORKLOADS[workload]()
    hits = hits_by_size(reuse_distances(np.array(pages)), 2000)
    assert len(hits) == 2001
    assert hits[0] == 0
    for size in (1, 7, 100, 1999):
        assert hits[size] == figures(simulate(POLICIES["lru"](size, 5000), size, pages))[0]


def test_distances_of_very_many() -> None:
    """More than the larger blocks hold, against LRU at sizes of which some fall into one block and some do not."""
    pages = np.array(WORKLOADS["popular"]() * 4 + [page + 3000 for page in WORKLOADS["runs"]()] * 4)
    pages = np.concatenate((pages[:50_000], np.arange(40_000), pages[-50_000:]))
    hits = hits_by_size(reuse_distances(pages), 45_000)
    assert len(pages) > 1 << 17
    for size in (900, 44_000):
        assert hits[size] == sum(simulate(POLICIES["lru"](size, 45_000), size, pages.tolist()))


def test_previous_accesses() -> None:
    assert previous(np.array([5, 5, 3, 5, 3, 0])).tolist() == [-1, 0, -1, 1, 2, -1]
    assert previous(np.array([], np.int64)).tolist() == []


def best(pages: tuple[int, ...], capacity: int) -> int:
    """Every choice, tried."""

    @cache
    def hits(at: int, here: frozenset[int]) -> int:
        if at == len(pages):
            return 0
        page = pages[at]
        if page in here:
            return 1 + hits(at + 1, here)
        if len(here) < capacity:
            return hits(at + 1, here | {page})
        return max(hits(at + 1, here - {gone} | {page}) for gone in here)

    return hits(0, frozenset())


@given(st.lists(st.integers(0, 4), max_size=14), st.integers(1, 4))
def test_belady_is_the_best(pages: list[int], capacity: int) -> None:
    outcome = belady(np.array(pages, np.int64), capacity, 5)
    assert np.count_nonzero(outcome.hits) == best(tuple(pages), capacity)
    assert np.count_nonzero(outcome.held) == min(capacity, len(set(pages)))


@pytest.mark.parametrize("workload", WORKLOADS)
def test_nobody_beats_belady(workload: str) -> None:
    pages = WORKLOADS[workload]()
    bounds = [int(belady(np.array(pages), capacity, 5000).hits.sum()) for capacity in (30, 300, 1500)]
    assert all(smaller < larger for smaller, larger in pairwise(bounds))
    for capacity, bound in zip((30, 300, 1500), bounds, strict=True):
        for name in POLICIES:
            assert figures(simulate(POLICIES[name](capacity, 5000), capacity, pages))[0] < bound
