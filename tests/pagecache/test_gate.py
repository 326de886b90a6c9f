"""The gate, with threads that would meet if it let them."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

from support.mounted import PATIENCE

from btrimg.pagecache.gate import Gate


def test_readers_are_together_and_who_changes_is_alone() -> None:
    gate, inside = Gate(), []
    together, started = threading.Barrier(2, timeout=PATIENCE), threading.Event()

    def read() -> None:
        with gate.reading():
            together.wait()  # both readers are in, or this breaks; who wants to change comes later
            inside.append("reader")
            started.set()
            for _ in range(1000):
                assert "changer" not in inside
            inside.remove("reader")

    def change() -> None:
        assert started.wait(PATIENCE)
        for _ in range(300):
            with gate.changing(), gate.changing(), gate.reading():
                assert not inside
                inside.append("changer")
                inside.remove("changer")

    with ThreadPoolExecutor(4) as pool:
        for job in [pool.submit(each) for each in (change, change, read, read)]:
            job.result(timeout=PATIENCE)
    assert not inside


def test_who_wants_to_change_waits_for_readers_and_goes_before_later_ones() -> None:
    gate, order = Gate(), []
    reading, done = threading.Event(), threading.Event()

    def read() -> None:
        with gate.reading():
            reading.set()
            assert done.wait(PATIENCE)
            order.append("early reader")

    def change() -> None:
        with gate.changing():
            order.append("changer")

    def read_late() -> None:
        with gate.reading():
            order.append("late reader")

    with ThreadPoolExecutor(3) as pool:
        early = pool.submit(read)
        assert reading.wait(PATIENCE)
        changer = pool.submit(change)
        while not gate._closed:  # until it stands there
            pass
        late = pool.submit(read_late)
        done.set()
        for job in (early, changer, late):
            job.result(timeout=PATIENCE)
    assert order == ["early reader", "changer", "late reader"]
