"""Simulated caches: whole sequences against driving the policies access by access."""

from __future__ import annotations

from collections import deque
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from btrimg.pagecache import eviction, loops
from btrimg.pagecache.eviction import POLICIES
from btrimg.pagecache.loops import _without_stale
from btrimg.pagecache.simulate import BELADY, NAMES, Stream
from pagecache.test_eviction import LIBCACHESIM, WORKLOADS, figures, simulate


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("workload", WORKLOADS)
@pytest.mark.parametrize("capacity", [1, 40, 1400])
def test_a_sequence_is_its_accesses(policy: str, workload: str, capacity: int) -> None:
    pages = WORKLOADS[workload]()
    outcome = Stream(np.array(pages), 5000).run(policy, capacity)
    assert outcome.hits.tobytes() == simulate(POLICIES[policy](capacity, 5000), capacity, pages)


@pytest.mark.parametrize(("policy", "capacity", "workload"), LIBCACHESIM)
def test_a_sequence_is_decided_as_by_libcachesim(policy: str, capacity: int, workload: str) -> None:
    outcome = Stream(np.array(WORKLOADS[workload]()), 5000).run(policy, capacity)
    assert figures(outcome.hits.tobytes()) == LIBCACHESIM[policy, capacity, workload]


@given(
    st.sampled_from(sorted(POLICIES)),
    st.integers(1, 30),
    st.lists(st.tuples(st.integers(0, 40), st.integers(1, 3), st.integers(1, 12)), max_size=40),
)
def test_any_sequence_is_its_accesses(policy: str, capacity: int, parts: list[tuple[int, int, int]]) -> None:
    pages = [page for first, times, count in parts for _ in range(times) for page in range(first, first + count)]
    outcome = Stream(np.array(pages, np.int64), 60).run(policy, capacity)
    assert outcome.hits.tobytes() == simulate(POLICIES[policy](capacity, 60), capacity, pages)
    assert np.count_nonzero(outcome.held) == min(capacity, len(set(pages)))


@pytest.mark.parametrize("capacity", [1, 2, 40, 1400])
def test_more_may_be_active_where_there_is_more_memory(capacity: int, monkeypatch: pytest.MonkeyPatch) -> None:
    outcomes = []
    for ratio in (1, 3):
        for module in (eviction, loops):
            monkeypatch.setattr(module, "inactive_ratio", lambda _, ratio=ratio: ratio)
        pages = WORKLOADS["popular"]()
        outcomes.append(Stream(np.array(pages), 5000).run("two-list", capacity).hits.tobytes())
        assert outcomes[-1] == simulate(POLICIES["two-list"](capacity, 5000), capacity, pages)
    assert (outcomes[0] == outcomes[1]) == (capacity < 4)


def test_stale_entries_of_a_queue_can_be_left_out() -> None:
    stale = bytearray([0, 2, 1])
    assert list(_without_stale(deque([1, 0, 2, 1, 1, 2]), stale)) == [0, 1, 2]
    assert stale == bytes(3)


@pytest.mark.parametrize("policy", NAMES)
def test_where_most_hit(policy: str) -> None:
    pages = (WORKLOADS["popular"]() * 3)[:20_000]
    pages = [page for page in pages if page % 50 < 3] * 3 + list(range(4000, 4100)) * 5
    told: list[int] = []
    outcome = Stream(np.array(pages), 5000).run(policy, 150, told.append)
    if policy != BELADY:
        assert outcome.hits.tobytes() == simulate(POLICIES[policy](150, 5000), 150, pages)
    assert 0.8 < outcome.hits.mean() < 0.999
    assert sum(told) in (0, len(pages))


@given(
    st.sampled_from(NAMES),
    st.integers(1, 5),
    st.lists(st.tuples(st.integers(0, 7), st.integers(0, 2)), max_size=40),
)
def test_who_used_what_was_evicted(policy: str, capacity: int, accesses: list[tuple[int, int]]) -> None:
    stream = Stream(np.array([page for page, _ in accesses], np.int64), 8)
    file = np.array([file for _, file in accesses], np.int64)
    outcome = stream.run(policy, capacity)
    stays = list[set[tuple[int, int, int]]]()  # of each page, one after the other
    latest = dict[int, set[tuple[int, int, int]]]()
    for (page, user), hit in zip(accesses, outcome.hits.tolist(), strict=True):
        if not hit:
            latest[page] = set()
            stays.append(latest[page])
        latest[page].add((page, len(stays), user))
    users = [{user for _, _, user in stay} for stay in stays]
    held = [latest[page] for page in np.flatnonzero(outcome.held).tolist()]
    ended = [found for found, stay in zip(users, stays, strict=True) if all(stay is not other for other in held)]
    assert len(ended) == np.count_nonzero(~outcome.hits) - np.count_nonzero(outcome.held)
    assert stream.sharers_of_evicted(outcome, file) == sum(map(len, ended))


def test_first_accesses() -> None:
    assert Stream(np.array([3, 3, 1, 3, 0, 1]), 4).first.tolist() == [True, False, True, False, True, False]
    assert Stream(np.array([], np.int64), 0).first.tolist() == []


@pytest.mark.parametrize("policy", NAMES)
def test_more_room_for_more(policy: str) -> None:
    stream = Stream(np.array(WORKLOADS["scanned"]()), 5000)
    hits = [int(stream.run(policy, capacity).hits.sum()) for capacity in (50, 200, 800, 3000)]
    assert all(fewer <= more for fewer, more in pairwise(hits))
    assert hits[-1] == len(stream.pages) - len(set(stream.pages.tolist()))
