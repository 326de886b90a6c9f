"""Data compressed chunk by chunk, by several threads, before they are stored."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple

from btrimg.ondisk.compression import compress
from btrimg.ondisk.constants import MAX_COMPRESSED
from btrimg.units import round_up

if TYPE_CHECKING:
    from collections.abc import Iterator
    from concurrent.futures import Future

    from typing_extensions import Buffer


class Prepared(NamedTuple):
    """Data whose compression is under way."""

    data: memoryview
    kind: int  #: Compression
    streams: list[Future[bytes | None]]  #: of every 128 KiB; None where the stream would not be shorter

    def parts(self, sectorsize: int) -> Iterator[tuple[memoryview, bytes | None]]:
        """Yield the data in order, with the stream of what is to be stored compressed, once that is there."""
        plain = 0  # where what comes as it is begins
        for number, future in enumerate(self.streams):
            start = number * MAX_COMPRESSED
            chunk, stream = self.data[start : start + MAX_COMPRESSED], future.result()
            if stream is not None and pays(len(chunk), len(stream), sectorsize):
                if plain < start:
                    yield self.data[plain:start], None
                yield chunk, stream
                plain = start + len(chunk)
        if plain < len(self.data):
            yield self.data[plain:], None


class Encoder:
    """Threads that compress: zlib and zstd release the interpreter's lock, LZO does not."""

    def __init__(self, sectorsize: int) -> None:
        self._sectorsize = sectorsize
        self._threads = ThreadPoolExecutor(os.cpu_count())

    def prepare(self, data: Buffer, kind: int, level: int | None) -> Prepared:
        """Begin to compress *data*, which must not be changed any more; by kind NONE they stay as they are."""
        view = memoryview(data).cast("B")
        if not kind:
            return Prepared(view, kind, [])
        chunks = (view[at : at + MAX_COMPRESSED] for at in range(0, len(view), MAX_COMPRESSED))
        return Prepared(view, kind, [self._threads.submit(self._encode, chunk, kind, level) for chunk in chunks])

    def close(self) -> None:
        """End the threads."""
        self._threads.shutdown(cancel_futures=True)

    def _encode(self, chunk: memoryview, kind: int, level: int | None) -> bytes | None:
        stream = compress(kind, chunk, level=level, sectorsize=self._sectorsize)
        return stream if len(stream) < len(chunk) else None


def pays(plain: int, stream: int, sectorsize: int) -> bool:
    """Return whether *stream* bytes instead of *plain* ones save a sector at least.

    As fs/btrfs/inode.c ``compress_file_range`` decides.
    """
    return round_up(stream, sectorsize) + sectorsize <= round_up(plain, sectorsize)
