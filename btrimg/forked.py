"""A process beside this one: forked, so that it knows all that this one knows, with an interpreter of its own.

A thread would wait for the interpreter that both need.
"""

from __future__ import annotations

import marshal
import os
import struct
from contextlib import contextmanager, suppress
from threading import Thread, active_count
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_SIZE = struct.Struct("<Q")  # before a value: the bytes that it takes


def cores() -> int:
    """Return how many processors there are for us."""
    return len(os.sched_getaffinity(0))


class Line:
    """One end of a line between two processes, for values that marshal takes. What is told comes in that order."""

    def __init__(self, hearing: int, telling: int) -> None:
        self._hearing, self._telling = os.fdopen(hearing, "rb"), os.fdopen(telling, "wb")

    def tell(self, what: Any) -> None:
        """Send a value; BrokenPipeError where the other process has gone."""
        told = marshal.dumps(what)
        self._telling.write(_SIZE.pack(len(told)))
        self._telling.write(told)
        self._telling.flush()

    def hear(self) -> Any:
        """Wait for the next value; EOFError where the other process has gone."""
        (size,) = _SIZE.unpack(self._read(_SIZE.size))
        return marshal.loads(self._read(size))  # noqa: S302  # of a process of our own

    def _read(self, size: int) -> bytes:
        data = self._hearing.read(size)
        if len(data) < size:
            raise EOFError("the process at the other end has gone")
        return data

    def close(self) -> None:
        """Close this end."""
        self._hearing.close()
        with suppress(BrokenPipeError):  # what nobody heard
            self._telling.close()


def alone() -> bool:
    """Return whether this process can be forked: of several threads of Python, another may hold a lock just now."""
    return active_count() == 1


@contextmanager
def beside(serve: Callable[[Line], None]) -> Iterator[Line]:
    """Let *serve* run in a process beside this one, and give the line to it; at the end the process is gone.

    It is for processes that are ``alone``; the forked one has no input and no output. Raises OSError where the system
    has no room for another process.
    """
    from multiprocessing import get_context  # takes 10 ms

    line, theirs = _lines()
    child = get_context("fork").Process(target=_serve, args=(serve, theirs, line))
    try:
        child.start()
    except BaseException:
        line.close()
        raise
    finally:
        theirs.close()  # so that the line ends with the other process
    try:
        yield line
    finally:
        child.kill()  # it may be waiting for something, and has nothing to clean up
        child.join()
        line.close()


@contextmanager
def within(serve: Callable[[Line], None]) -> Iterator[Line]:
    """Do as ``beside``, with a thread of this process, which is not killed: it ends by what it tells or hears next."""
    line, theirs = _lines()

    def run() -> None:
        try:
            with suppress(BrokenPipeError, EOFError):
                serve(theirs)
        finally:
            theirs.close()

    thread = Thread(target=run, name="within", daemon=True)
    thread.start()
    try:
        yield line
    finally:
        line.close()
        thread.join()


def _lines() -> tuple[Line, Line]:
    """Return both ends of a line."""
    (hearing, their_telling), (their_hearing, telling) = os.pipe(), os.pipe()
    return Line(hearing, telling), Line(their_hearing, their_telling)


def _serve(serve: Callable[[Line], None], line: Line, others: Line) -> None:
    others.close()
    with open(os.devnull, "r+b") as nothing:  # whoever waits for the end of our output waits for the parent's only
        for stream in range(3):
            os.dup2(nothing.fileno(), stream)
    with suppress(BaseException):  # a signal, or a parent that has gone: nobody is left to be told of it
        serve(line)
