"""Policies of eviction, against libCacheSim hit by hit, against plain models, and by hand where Linux is meant."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from btrimg.pagecache.eviction import POLICIES, S3Fifo, TwoList
from btrimg.pagecache.order import Order

if TYPE_CHECKING:
    from collections.abc import Iterator

    from btrimg.pagecache.eviction import Policy

N = 12_000


def numbers(seed: int) -> Iterator[int]:
    """Yield numbers below 2**31 that are the same with every Python (Park and Miller's generator)."""
    while True:
        seed = seed * 48271 % 0x7FFFFFFF
        yield seed


def popular() -> list[int]:
    """Few pages are asked for often, most rarely."""
    source = numbers(1)
    return [next(source) % (next(source) % 3000 + 1) for _ in range(N)]


def scanned() -> list[int]:
    """Half of it runs through pages in order, half returns to 150 of them."""
    source = numbers(2)
    return [(i if next(source) % 2 else next(source) % 150) % 2000 for i in range(N)]


def runs() -> list[int]:
    """Runs of 1, 4 and 32 pages, from anywhere."""
    source = numbers(3)
    pages: list[int] = []
    while len(pages) < N:
        first = next(source) % 2000
        pages += range(first, first + (1, 4, 32)[next(source) % 3])
    return pages


WORKLOADS = {function.__name__: function for function in (popular, scanned, runs)}

#: hits, and crc32 of one byte per access (1: hit), that libCacheSim gives by its Python package libcachesim 0.3.5
#: (x86-64), objects of size 1; test_recorded_figures_are_libcachesims makes them again where the package is installed
LIBCACHESIM = {
    ("lru", 20, "popular"): (132, 3449852949),
    ("lru", 21, "runs"): (72, 4065552892),
    ("lru", 333, "popular"): (2468, 1574443002),
    ("lru", 333, "scanned"): (5146, 1770537190),
    ("lru", 1000, "runs"): (5302, 348851067),
    ("clock", 20, "popular"): (135, 78044455),
    ("clock", 21, "runs"): (72, 4065552892),
    ("clock", 333, "popular"): (2529, 4267824685),
    ("clock", 333, "scanned"): (5631, 3784863741),
    ("clock", 1000, "runs"): (5406, 3415756226),
    ("s3-fifo", 20, "popular"): (274, 3817847865),
    ("s3-fifo", 21, "runs"): (119, 3970012724),
    ("s3-fifo", 333, "popular"): (3151, 1794592623),
    ("s3-fifo", 333, "scanned"): (6667, 4077651097),
    ("s3-fifo", 1000, "runs"): (5692, 3947012217),
}


def simulate(policy: Policy, capacity: int, pages: list[int]) -> bytes:
    """Drive *policy* page by page; return for each access whether it hit."""
    here: set[int] = set()
    hits = bytearray()
    for page in pages:
        hits.append(page in here)
        if page in here:
            policy.touch((page,))
            continue
        if len(here) == capacity:
            here.remove(policy.evict())
        policy.admit((page,))
        here.add(page)
    return bytes(hits)


def figures(hits: bytes) -> tuple[int, int]:
    return sum(hits), zlib.crc32(hits)


@pytest.mark.parametrize(("policy", "capacity", "workload"), LIBCACHESIM)
def test_decides_as_libcachesim_does(policy: str, capacity: int, workload: str) -> None:
    pages = WORKLOADS[workload]()
    hits = simulate(POLICIES[policy](capacity, max(pages) + 1), capacity, pages)
    assert figures(hits) == LIBCACHESIM[policy, capacity, workload]


@pytest.mark.parametrize(("policy", "capacity", "workload"), LIBCACHESIM)
def test_recorded_figures_are_libcachesims(policy: str, capacity: int, workload: str) -> None:
    assert (
        figures(simulate_libcachesim(policy, capacity, WORKLOADS[workload]()))
        == (LIBCACHESIM[policy, capacity, workload])
    )


def simulate_libcachesim(policy: str, capacity: int, pages: list[int]) -> bytes:
    package = pytest.importorskip("libcachesim")
    cache = getattr(package, {"lru": "LRU", "clock": "Clock", "s3-fifo": "S3FIFO"}[policy])(capacity)
    hits = bytearray()
    for page in pages:
        request = package.Request()
        request.obj_id, request.obj_size = page, 1
        hits.append(cache.get(request))
    return bytes(hits)


@given(
    st.lists(st.tuples(st.sampled_from(["push", "pop", "drop"]), st.lists(st.integers(0, 9), max_size=6)), max_size=60)
)
def test_an_order_is_a_list(steps: list[tuple[str, list[int]]]) -> None:
    order, model = Order(10), list[int]()
    for step, pages in steps:
        if step == "pop":
            if model:
                assert order.pop() == model.pop(0)
            else:
                with pytest.raises(IndexError):
                    order.pop()
        elif step == "drop":
            assert order.drop(pages) == len(set(pages) & set(model))
            model = [page for page in model if page not in pages]
        else:
            order.add(sorted(set(pages) - set(model)))
            model += sorted(set(pages) - set(model))
            order.renew(np.array(pages, np.int64))
            model = [page for page in model if page not in pages]
            model += [page for at, page in enumerate(pages) if page not in pages[at + 1 :]]
        assert [page for page in range(10) if page in order] == sorted(model)
        assert order.length == len(model)


def test_an_order_forgets_what_is_stale() -> None:
    order = Order(100)
    order.add(range(100))
    for turn in range(10_000):
        order.renew(range(turn % 90, turn % 90 + 10) if turn % 3 else (turn % 100,))
    logged = len(order._head) + sum(len(run) for run in order._log) + len(order._tail)
    assert logged < 5000  # of some 70,000 that were appended
    model = list(range(100))
    for turn in range(10_000):
        renewed = range(turn % 90, turn % 90 + 10) if turn % 3 else (turn % 100,)
        model = [page for page in model if page not in renewed] + list(renewed)
    assert [order.pop() for _ in model] == model


@pytest.mark.parametrize("policy", POLICIES)
def test_runs_are_pages_in_order(policy: str) -> None:
    single, by_runs, batches = (POLICIES[policy](400, 2000) for _ in range(3))
    here: set[int] = set()
    gone = []
    for first in [next(source) % 1900 for source in [numbers(4)] for _ in range(800)]:
        run = range(first, first + first % 50)
        hits = [page for page in run if page in here]
        misses = [page for page in run if page not in here]
        for page in hits:
            single.touch((page,))
        for made, form in ((by_runs, list), (batches, np.array)):
            if len(hits) == len(run):
                made.touch(run)
            else:
                made.touch(form(hits))
        while len(here) + len(misses) > 400:
            gone.append(single.evict())
            assert gone[-1] == by_runs.evict() == batches.evict()
            here.remove(gone[-1])
            if gone[-1] in hits:  # as a cache would read it again
                misses.append(gone[-1])
        for made in (by_runs, batches):
            made.admit(misses)
        single.admit(misses)
        here.update(misses)
    assert len(gone) > 2000


@pytest.mark.parametrize("policy", POLICIES)
def test_frames_are_taken_again_and_keys_remain(policy: str) -> None:
    """A cache numbers frames, a replay numbers keys: both must see the same hits."""
    pages = WORKLOADS["scanned"]()
    frames: dict[str, int] = {}
    free, capacity = list(range(150)), 150
    made, hits = POLICIES[policy](capacity), bytearray()
    for page in pages:
        key = f"key {page}"
        hits.append(key in frames)
        if key in frames:
            made.touch((frames[key],))
            continue
        if not free:
            frame = made.evict()
            del frames[next(key for key, held in frames.items() if held == frame)]
            free.append(frame)
        frames[key] = free.pop()
        made.admit((frames[key],), (key,))
    assert bytes(hits) == simulate(POLICIES[policy](capacity, 2000), capacity, pages)


@pytest.mark.parametrize("policy", POLICIES)
def test_what_is_forgotten_is_not_evicted(policy: str) -> None:
    made = POLICIES[policy](40, 40)
    made.admit(range(40), [("key", page) for page in range(40)])
    made.touch(range(10, 20))
    made.touch([12, 12, 13])
    made.forget(range(5, 35))
    made.forget([7, 39])
    made.admit([7, 8], [("key", 7), ("other", 8)])
    assert sorted(made.evict() for _ in range(11)) == [0, 1, 2, 3, 4, 7, 8, 35, 36, 37, 38]
    with pytest.raises(IndexError):
        made.evict()


@pytest.mark.parametrize("policy", POLICIES)
def test_one_page_is_a_cache(policy: str) -> None:
    assert simulate(POLICIES[policy](1, 3), 1, [0, 0, 1, 1, 0, 2, 2, 2]) == bytes([0, 1, 0, 1, 0, 0, 1, 1])


def test_s3fifo_is_spared_by_a_scan() -> None:
    """What was used twice survives pages that are read once; LRU gives all of it up."""
    pages = [*range(100), *range(100), *range(100), *range(1000, 3000), *range(100)]
    survived = {name: figures(simulate(POLICIES[name](200, 3000), 200, pages)[-100:])[0] for name in POLICIES}
    assert survived == {"lru": 0, "clock": 0, "s3-fifo": 100, "two-list": 100}


def test_two_lists_as_linux_keeps_them() -> None:
    lists = TwoList(4, 20)
    lists.admit([0, 1, 2, 3])
    lists.touch([0])  # read twice: active
    assert lists.evict() == 1
    lists.admit([4])
    lists.touch([2, 3, 4])  # active: 0 2 3 4, more than are inactive; the oldest of them step down until it is even
    assert lists.evict() == 0
    lists.admit([5])
    assert lists.evict() == 2
    # 0 is read again after two evictions, two pages are active: it becomes active at once, and 3 steps down
    lists.admit([0])
    assert [lists.evict() for _ in range(4)] == [5, 3, 4, 0]


def test_a_page_that_was_gone_for_too_long_is_not_activated() -> None:
    lists = TwoList(4, 20)
    lists.admit([0, 1, 2, 3])
    lists.touch([3])
    assert [lists.evict(), lists.evict()] == [0, 1]
    lists.admit([0, 4])  # 1 is active, 2 evicted since: distance 2 is more
    assert [lists.evict() for _ in range(2)] == [2, 0]


def test_ghosts_are_bounded() -> None:
    s3fifo, lists = S3Fifo(100, 20_000), TwoList(100, 20_000)
    for policy in (s3fifo, lists):
        simulate(policy, 100, list(range(20_000)))
    assert len(s3fifo._ghost) == 90
    assert 100 <= len(lists._gone) <= 200
