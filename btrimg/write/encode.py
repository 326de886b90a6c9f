"""Data compressed chunk by chunk, by several threads, before they are stored."""

from __future__ import annotations

import os

from btrimg.named import NamedTuple
from btrimg.ondisk.compression import compress
from btrimg.ondisk.constants import MAX_COMPRESSED
from btrimg.units import KIB, round_up

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from concurrent.futures import Future, ThreadPoolExecutor

AT_ONCE = 256 * KIB  #: bytes that a thread compresses before it looks for more: for small files one by one is too often


class Prepared(NamedTuple):
    """Data whose compression is under way."""

    data: memoryview
    kind: int  #: Compression
    streams: list[Callable[[], bytes | None]]  #: of every 128 KiB; None where the stream would not be shorter

    def parts(self, sectorsize: int) -> Iterator[tuple[memoryview, bytes | None]]:
        """Yield the data in order, with the stream of what is to be stored compressed, once that is there."""
        plain = 0  # where what comes as it is begins
        for number, get_stream in enumerate(self.streams):
            start = number * MAX_COMPRESSED
            chunk, stream = self.data[start : start + MAX_COMPRESSED], get_stream()
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
        self._pool: ThreadPoolExecutor | None = None  # none before there is something to compress
        self._batch = _Batch(self)

    def prepare(self, data: bytes | memoryview, kind: int, level: int | None) -> Prepared:
        """Begin to compress *data*, which must not be changed any more; by kind NONE they stay as they are."""
        view = memoryview(data).cast("B")
        if not kind:
            return Prepared(view, kind, [])
        chunks = (view[at : at + MAX_COMPRESSED] for at in range(0, len(view), MAX_COMPRESSED))
        return Prepared(view, kind, [self._add(chunk, kind, level) for chunk in chunks])

    def prepare_all(self, contents: Sequence[bytes], kind: int, level: int | None) -> Future[list[bytes | None]]:
        """Begin to compress many contents, at most 128 KiB each, in one thread; the streams are None as in `encode`."""
        return self._threads.submit(self._encode_all, [(content, kind, level) for content in contents])

    def close(self) -> None:
        """End the threads."""
        if self._pool:
            self._pool.shutdown(cancel_futures=True)

    @property
    def _threads(self) -> ThreadPoolExecutor:
        if self._pool is None:
            from concurrent.futures import ThreadPoolExecutor

            self._pool = ThreadPoolExecutor(os.cpu_count())
        return self._pool

    def _add(self, chunk: memoryview, kind: int, level: int | None) -> Callable[[], bytes | None]:
        batch = self._batch
        number = batch.add(chunk, kind, level)
        if batch.size >= AT_ONCE:
            batch.begin()
        return lambda: batch.stream(number)

    def begin(self, batch: _Batch) -> Future[list[bytes | None]]:
        """Have *batch* compressed; the next chunks go to another one."""
        self._batch = _Batch(self)
        return self._threads.submit(self._encode_all, batch.chunks)

    def encode(self, chunk: bytes | memoryview, kind: int, level: int | None) -> bytes | None:
        """Return the stream of *chunk*, at most 128 KiB, None if it would not be shorter; done when this returns."""
        stream = compress(kind, chunk, level=level, sectorsize=self._sectorsize)
        return stream if len(stream) < len(chunk) else None

    def _encode_all(self, chunks: Sequence[tuple[bytes | memoryview, int, int | None]]) -> list[bytes | None]:
        return [self.encode(*chunk) for chunk in chunks]


class _Batch:
    """Chunks that one thread compresses, once there are enough of them or somebody waits for one."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self._job: Future[list[bytes | None]] | None = None
        self.chunks: list[tuple[memoryview, int, int | None]] = []
        self.size = 0

    def add(self, chunk: memoryview, kind: int, level: int | None) -> int:
        """Take one more chunk; return its number."""
        self.chunks.append((chunk, kind, level))
        self.size += len(chunk)
        return len(self.chunks) - 1

    def begin(self) -> Future[list[bytes | None]]:
        """Compress what is there, unless that has been begun."""
        if self._job is None:
            self._job = self._encoder.begin(self)
        return self._job

    def stream(self, number: int) -> bytes | None:
        """Return the stream of a chunk, None if it would not be shorter."""
        return self.begin().result()[number]


def pays(plain: int, stream: int, sectorsize: int) -> bool:
    """Return whether *stream* bytes instead of *plain* ones save a sector at least.

    As fs/btrfs/inode.c ``compress_file_range`` decides.
    """
    return round_up(stream, sectorsize) + sectorsize <= round_up(plain, sectorsize)
