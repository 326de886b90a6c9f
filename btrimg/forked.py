"""A process beside this one: forked, so that it knows all that this one knows, with an interpreter of its own.

A thread would wait for the interpreter that both need.
"""

from __future__ import annotations

import gc
import marshal
import os
import struct
from contextlib import contextmanager, suppress
from queue import SimpleQueue
from threading import Event, Thread, active_count, current_thread, main_thread
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_STOPPING, _KILL = (1, 2, 15), 9  # SIGHUP, SIGINT, SIGTERM, SIGKILL; to import signal takes 4 ms
_NICENESS = 10  # with 19, where a processor is busy with something else, others wait for what comes of it
_SIZE = struct.Struct("<Q")  # before a value: the bytes that it takes


def cores() -> int:
    """Return how many processors there are for us."""
    return len(os.sched_getaffinity(0))


def alone() -> bool:
    """Return whether this process can be forked: of several threads of Python, another may hold a lock just now."""
    return active_count() == 1


def give_way() -> None:
    """Let others have the processors first that this thread competes with; in Linux, it is of the thread alone."""
    with suppress(OSError):
        os.nice(_NICENESS)


class Line(Protocol):
    """One end of a line to who works beside, for values that marshal takes. What is told comes in that order."""

    def tell(self, what: Any) -> None:
        """Send a value; BrokenPipeError where the other end has gone."""

    def hear(self) -> Any:
        """Wait for the next value; EOFError where the other end has gone."""

    def close(self) -> None:
        """Close this end."""


class _Pipes:
    """One end of a line between two processes."""

    def __init__(self, hearing: int, telling: int) -> None:
        self._hearing, self._telling = os.fdopen(hearing, "rb"), os.fdopen(telling, "wb")

    def tell(self, what: Any) -> None:
        told = marshal.dumps(what)
        self._telling.write(_SIZE.pack(len(told)))
        self._telling.write(told)
        self._telling.flush()

    def hear(self) -> Any:
        (size,) = _SIZE.unpack(self._read(_SIZE.size))
        return marshal.loads(self._read(size))  # noqa: S302  # of a process of our own

    def _read(self, size: int) -> bytes:
        data = self._hearing.read(size)
        if len(data) < size:
            raise EOFError("the process at the other end has gone")
        return data

    def close(self) -> None:
        self._hearing.close()
        with suppress(BrokenPipeError):  # what nobody heard
            self._telling.close()


class _Queues:
    """One end of a line between two threads; *closed* is set by the first who closes."""

    def __init__(self, hearing: SimpleQueue[Any], telling: SimpleQueue[Any], closed: Event) -> None:
        self._hearing, self._telling, self._closed = hearing, telling, closed

    def tell(self, what: Any) -> None:
        if self._closed.is_set():
            raise BrokenPipeError("the thread at the other end has gone")
        self._telling.put((what,))

    def hear(self) -> Any:
        told = self._hearing.get()
        if told is None:
            self._hearing.put(None)  # for who asks again
            raise EOFError("the thread at the other end has gone")
        return told[0]

    def close(self) -> None:
        self._closed.set()
        for queue in (self._hearing, self._telling):
            queue.put(None)


@contextmanager
def beside(serve: Callable[[Line], None]) -> Iterator[Line]:
    """Let *serve* run in a process beside this one, and give the line to it; at the end the process is gone.

    It is for processes that are ``alone``; the forked one has no input and no output. Raises OSError where the system
    has no room for another process.
    """
    line, theirs = _pipes()
    child = 0
    try:
        try:
            with _signals_later():
                child = os.fork()  # what multiprocessing adds to it takes 15 ms to import
                if not child:
                    _serve(serve, theirs, line)
        finally:
            theirs.close()  # so that the line ends with the other process
        yield line
    finally:
        try:
            if child:
                _end(child)
        finally:
            line.close()


@contextmanager
def within(serve: Callable[[Line], None]) -> Iterator[Line]:
    """Do as ``beside``, with a thread of this process, which is not killed: it ends by what it tells or hears next."""
    there, back, closed = SimpleQueue[Any](), SimpleQueue[Any](), Event()
    line, theirs = _Queues(back, there, closed), _Queues(there, back, closed)

    def run() -> None:
        try:
            with suppress(BrokenPipeError, EOFError):
                serve(theirs)
        finally:
            back.put(None)

    thread = Thread(target=run, name="within", daemon=True)
    thread.start()
    try:
        yield line
    finally:
        line.close()
        thread.join()


def _pipes() -> tuple[_Pipes, _Pipes]:
    """Return both ends of a line between processes."""
    ours = os.pipe()
    try:
        theirs = os.pipe()
    except OSError:
        for fd in ours:
            os.close(fd)
        raise
    return _Pipes(ours[0], theirs[1]), _Pipes(theirs[0], ours[1])


@contextmanager
def _signals_later() -> Iterator[None]:
    """Heed signals at the end: what their handlers raise while Python forks, it prints and forgets."""
    import signal

    came: list[int] = []
    handlers = {number: signal.getsignal(number) for number in map(signal.Signals, _STOPPING)}
    if current_thread() is not main_thread():  # which no handler interrupts
        handlers.clear()
    heeded = {number: handler for number, handler in handlers.items() if callable(handler)}
    for number in heeded:
        signal.signal(number, lambda number, _frame: came.append(number))
    try:
        yield
    finally:
        for number, handler in heeded.items():
            signal.signal(number, handler)
        for each in came:
            signal.raise_signal(each)


def _end(child: int) -> None:
    """Kill a process that we have forked: it may be waiting for something, and has nothing to clean up."""
    # Where SIGCHLD is ignored, or others wait for all processes, it may be gone, and its number somebody else's.
    with suppress(ChildProcessError):
        if os.waitpid(child, os.WNOHANG) == (0, 0):
            os.kill(child, _KILL)
            os.waitpid(child, 0)


def _serve(serve: Callable[[Line], None], line: Line, others: Line) -> NoReturn:
    """Do all that the forked process does, and end it."""
    try:
        import signal

        for number in _STOPPING:
            signal.signal(number, signal.SIG_IGN)  # the parent heeds them, and ends us if it ends
        # What came along is not ours to take down: it may wait for threads that are not here. And to look through it
        # would write to it, and so copy it.
        gc.freeze()
        others.close()
        with open(os.devnull, "r+b") as nothing:  # whoever waits for the end of our output waits for the parent's only
            for stream in range(3):
                os.dup2(nothing.fileno(), stream)
        serve(line)
    finally:
        # Not as Python ends: that would flush what the parent has not written yet, and what is raised here, when the
        # parent has gone, nobody is left to be told of.
        os._exit(0)
