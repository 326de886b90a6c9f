"""Processes that serve one connection beside each other: none of them waits for another's interpreter."""

from __future__ import annotations

import ctypes
import fcntl
import multiprocessing
import os
import signal
import threading
from contextlib import suppress
from multiprocessing import connection
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from btrimg.mount.channel import Channel, Handler

_PR_SET_PDEATHSIG = 1


class ProcessLock:
    """A lock between a process and those that it forks; who ends has it no more.

    Made with a descriptor that must stay open as long as the lock is used: ``close`` is for a process that does not.
    """

    def __init__(self) -> None:
        self._fd = os.memfd_create("btrimg")

    def fileno(self) -> int:
        """Return the descriptor that it is the lock of."""
        return self._fd

    def acquire(self) -> None:
        """Wait for it."""
        fcntl.lockf(self._fd, fcntl.LOCK_EX)

    def release(self) -> None:
        """Let another process have it."""
        fcntl.lockf(self._fd, fcntl.LOCK_UN)

    def close(self) -> None:
        """Leave it to the other processes."""
        os.close(self._fd)


class Workers:
    """Processes that serve *channel*, forked before there are threads.

    They end when its filesystem is gone, or with the process that made them, however that ends. *not_theirs* are
    descriptors that they must not hold.
    """

    def __init__(
        self, channel: Channel, handlers: Mapping[int, Handler], count: int, not_theirs: tuple[int, ...]
    ) -> None:
        self._told, self._tell = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        channel.tell = self._pass_on
        self._closing = False
        parent = os.getpid()
        context = multiprocessing.get_context("fork")
        self._processes = [
            context.Process(target=_work, args=(channel, handlers, parent, not_theirs), daemon=True)
            for _ in range(count)
        ]
        for process in self._processes:
            process.start()
        os.close(self._tell)

    def watch(self, tell: Callable[[str], None], all_ended: Callable[[], None]) -> None:
        """Tell, in a thread of its own, of processes that end before they should; and call when none is left."""
        threading.Thread(target=self._watch, args=(tell, all_ended), daemon=True).start()

    def _watch(self, tell: Callable[[str], None], all_ended: Callable[[], None]) -> None:
        running = {process.sentinel: process for process in self._processes}
        while running:
            for sentinel in connection.wait([*running]):
                process = running.pop(cast("int", sentinel))
                if not self._closing:
                    tell(f"process {process.pid} has ended, {len(running)} are left that read data")
        all_ended()

    def _pass_on(self, message: str) -> None:
        with suppress(OSError):  # nobody has listened for long
            os.write(self._tell, message.encode("utf-8", "backslashreplace")[:500] + b"\n")

    def messages(self) -> list[str]:
        """Return what went wrong since it was asked last."""
        try:
            return os.read(self._told, 65536).decode().splitlines()
        except BlockingIOError:
            return []

    def close(self) -> None:
        """End them, and wait until they have; whoever still waits for one gets an error."""
        self._closing = True
        for process in self._processes:
            process.kill()  # they have nothing to clean up
        for process in self._processes:
            process.join()
        os.close(self._told)


def _work(channel: Channel, handlers: Mapping[int, Handler], parent: int, not_theirs: tuple[int, ...]) -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it has ended before
        return
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in range(3):  # whoever waits for the end of our output waits for the parent's only
        os.dup2(nothing, stream)
    for descriptor in (nothing, *not_theirs):
        os.close(descriptor)
    with suppress(OSError):  # then the others must end before those who wait for this one hear of its end
        channel.divide()
    channel.serve(handlers)
