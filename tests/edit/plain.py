"""A session of edits without what makes it safe: straight to the devices."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from btrimg.filesystem.image import open_image
from btrimg.ondisk.inodes import Timespec
from btrimg.volume.sink import DeviceSink
from btrimg.write.begin import begin
from btrimg.write.uuids import seeded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from typing_extensions import Buffer

    from btrimg.filesystem.image import Image
    from btrimg.volume.draft import Piece
    from btrimg.volume.writer import Sink
    from btrimg.write.transaction import Transaction


class PlainSession:
    """What edits need of a session; *through* may stand between it and the devices. It is its own sink."""

    def __init__(self, image: Image, sink: DeviceSink, through: Callable[[Sink], Sink] = lambda sink: sink) -> None:
        self.image, self._devices, self._sink = image, sink, through(sink)
        self.written = 0  # bytes
        self.commits = 0
        self._txn: Transaction | None = None

    @property
    def sink(self) -> PlainSession:
        return self

    def pwrite(self, devid: int, physical: int, data: Buffer) -> None:
        self.written += memoryview(data).nbytes
        self._sink.pwrite(devid, physical, data)

    def sync(self) -> None:
        self._sink.sync()

    def resize(self, devid: int, size: int) -> None:
        device = self.image.volume.devices[devid]
        os.truncate(device.path, size)
        device.size = size

    @property
    def pending(self) -> Transaction | None:
        return self._txn

    def transaction(self) -> Transaction:
        if self._txn is None:
            self._txn = begin(self.image, self, now=Timespec(1_800_000_000, 0), uuids=seeded(b"plain"))
        return self._txn

    def commit(self) -> None:
        if self._txn is not None:
            self._txn.commit()
            self.image.follow(self._txn.superblock)
            self._txn = None
            self.commits += 1

    def abort(self) -> None:
        self._txn = None

    def write_pieces(self, pieces: Iterable[Piece]) -> None:
        for piece in pieces:
            self.pwrite(piece.devid, piece.physical, piece.after)
        self.sync()


@contextmanager
def editing(devices: Sequence[str], through: Callable[[Sink], Sink] = lambda sink: sink) -> Iterator[PlainSession]:
    """Open an image to be edited."""
    with (
        open_image(devices, replay_log=None, warn=lambda _: None) as image,
        DeviceSink(image.volume.devices, durable=False) as sink,
    ):
        yield PlainSession(image, sink, through)
