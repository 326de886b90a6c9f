"""The database behind queries: it can be stopped at any time."""

from __future__ import annotations

import signal
import threading
from concurrent.futures import CancelledError
from typing import Any

import pytest

from btrimg.tables.database import Database, Limits

LONG = "select sum(a.i * b.i) from range(3000000) a(i), range(1000000) b(i)"  # minutes, were it not stopped


class Impatient:
    """A connection for whose user Ctrl-C does not work at once: it is hit again."""

    def __init__(self, connection: Any) -> None:
        self.connection, self.told = connection, 0

    def interrupt(self) -> None:
        self.told += 1
        if self.told == 1:
            raise KeyboardInterrupt
        self.connection.interrupt()


def test_a_query_stops_if_ctrl_c_is_hit_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    def call(_: Any) -> None:
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        impatient.connection.execute(LONG).fetchall()
        ended.append(True)

    ended: list[bool] = []
    database = Database(Limits(1 << 28, None))
    impatient = Impatient(database._con)
    monkeypatch.setattr(database, "_con", impatient)
    with pytest.raises(KeyboardInterrupt), database:
        database.run(call)
    assert impatient.told > 1
    assert not ended


def test_a_query_that_has_not_begun_does_not_begin_when_all_is_closed() -> None:
    begun: list[bool] = []
    database = Database(Limits(1 << 28, None))
    database._closing = True
    with pytest.raises(CancelledError), database:
        database.run(begun.append)
    assert not begun
