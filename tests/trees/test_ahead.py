"""Work ahead of its consumer: order, buffers, errors, and threads that end."""

from __future__ import annotations

import threading
import time

import pytest

from btrimg.trees.ahead import THREADS, ahead


class Buffers:
    """Makes buffers and counts them."""

    def __init__(self) -> None:
        self.made = 0

    def __call__(self) -> list[int]:
        self.made += 1
        return []


def fill(task: int, buffer: list[int]) -> list[int]:
    time.sleep(0.001 * (task % 3))  # so that threads finish out of order
    buffer[:] = [task]
    return buffer


@pytest.mark.parametrize("count", [0, 1, 2, 3, 50])
def test_results_come_in_the_order_of_tasks_and_last_until_the_next(count: int) -> None:
    buffers = Buffers()
    for task, result in ahead(fill, range(count), buffers):
        time.sleep(0.002)
        assert result == [task]
    assert buffers.made <= min(count, 2 * THREADS)
    assert [task for task, _ in ahead(fill, range(count), buffers)] == list(range(count))


def test_an_error_in_a_thread_is_raised_where_its_result_would_come() -> None:
    def work(task: int, buffer: list[int]) -> int:
        return 12 // (4 - task)

    results = ahead(work, range(9), Buffers())
    assert [next(results)[1] for _ in range(4)] == [3, 4, 6, 12]
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_an_error_that_is_the_result_is_given_out_as_any_other() -> None:
    found = [result for _, result in ahead(lambda task, _: ValueError(task), range(5), Buffers())]
    assert [(type(each), *each.args) for each in found] == [(ValueError, number) for number in range(5)]


def test_threads_end_when_the_consumer_stops_early() -> None:
    before = set(threading.enumerate())  # of which one may be about to end
    results = ahead(fill, range(100), Buffers())
    assert next(results)[0] == 0
    assert len(set(threading.enumerate()) - before) == THREADS
    results.close()
    assert not set(threading.enumerate()) - before
