"""A gate: many may read at once, or one may change."""

from __future__ import annotations

from contextlib import contextmanager
from threading import Condition, RLock, get_ident
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


class Gate:
    """Lets in readers side by side, or one thread that changes things, which may read and change inside.

    Who wants to change goes before readers that come later. A reader must not ask to change.
    """

    def __init__(self) -> None:
        self._changing = RLock()
        self._condition = Condition()
        self._readers = 0
        self._closed = 0  # how deep the thread is in that changes, or waits for readers to leave
        self._owner = 0  # the thread that changes

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Hold off changes by others."""
        if self._owner == get_ident():
            yield
            return
        with self._condition:
            while self._closed:
                self._condition.wait()
            self._readers += 1
        try:
            yield
        finally:
            with self._condition:
                self._readers -= 1
                if not self._readers:
                    self._condition.notify_all()

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Be alone."""
        with self._changing:
            with self._condition:
                self._closed += 1
                while self._readers:
                    self._condition.wait()
                self._owner = get_ident()
            try:
                yield
            finally:
                with self._condition:
                    self._closed -= 1
                    if not self._closed:
                        self._owner = 0
                        self._condition.notify_all()
