"""A machine that stops: every state in which it can leave the devices while something is written to them.

What was written before a sync is there after it. What was not may be there or not, page by page and in any order: a
device writes what its cache holds as it likes.
"""

from __future__ import annotations

import os
import random
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from typing_extensions import Buffer

    from btrimg.volume.writer import Sink

PAGE = 4096  # what reaches a disk whole or not at all


class Write(NamedTuple):
    """Bytes that were written at *physical* of a device."""

    devid: int
    physical: int
    data: bytes

    def pages(self) -> Iterator[Write]:
        """Yield the parts of this that reach the disk each by itself."""
        start = 0
        while start < len(self.data):
            end = min(start + PAGE - (self.physical + start) % PAGE, len(self.data))
            yield Write(self.devid, self.physical + start, self.data[start:end])
            start = end


class Recorder:
    """A sink that hands on to another, and remembers: a list of writes between each two syncs."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self.epochs: list[list[Write]] = [[]]

    def pwrite(self, devid: int, physical: int, data: Buffer) -> None:
        self.epochs[-1].append(Write(devid, physical, bytes(data)))
        self._sink.pwrite(devid, physical, data)

    def sync(self) -> None:
        self._sink.sync()
        self.epochs.append([])


class State(NamedTuple):
    """Where the machine stopped."""

    epoch: int  #: syncs that were done
    done: int | None  #: writes since that are on the devices, the first ones in order; None for some, in any order

    def __str__(self) -> str:
        return f"epoch {self.epoch}, {'some of it' if self.done is None else f'{self.done} writes'}"


def crashes(devices: Mapping[int, str], epochs: Sequence[Sequence[Write]], shuffled: int) -> Iterator[State]:
    """Bring *devices*, paths by devid, which are as before *epochs*, into every state that a crash can leave.

    That is every prefix of the writes; and in each epoch *shuffled* times some of its pages in any order.
    """
    with ExitStack() as stack:
        fds = {devid: os.open(path, os.O_RDWR) for devid, path in devices.items()}
        for fd in fds.values():
            stack.callback(os.close, fd)
        yield State(0, 0)
        for number, epoch in enumerate(epochs):
            pages = [page for write in epoch for page in write.pages()]
            for seed in range(shuffled if pages else 0):
                chosen = random.Random(seed << 32 | number)
                some = chosen.sample(pages, chosen.randrange(len(pages) + 1))
                with _applied(fds, some):
                    yield State(number, None)
            for done, (devid, physical, data) in enumerate(epoch, 1):
                os.pwrite(fds[devid], data, physical)
                yield State(number, done)


@contextmanager
def _applied(fds: Mapping[int, int], writes: Sequence[Write]) -> Iterator[None]:
    """Write, and take all of it back at the end."""
    before = []
    for devid, physical, data in writes:
        before.append((devid, physical, os.pread(fds[devid], len(data), physical)))
        os.pwrite(fds[devid], data, physical)
    yield
    for devid, physical, data in reversed(before):
        os.pwrite(fds[devid], data, physical)
