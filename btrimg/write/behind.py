"""Data on their way to the devices: neighbours gathered into large writes, which are made and checksummed behind."""

from __future__ import annotations

from collections import deque

from btrimg.units import MIB

TYPE_CHECKING = False
if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor

    from btrimg.volume.volume import Volume
    from btrimg.volume.writer import VolumeWriter
    from btrimg.write.csums import PendingCsums


FULL = 4 * MIB  #: bytes that are written at once
_UNDER_WAY = 3  # such writes; the next one waits until the first is done


class WriteBehind:
    """A buffer of neighbouring data, and a thread that writes it once it is large enough; little is written here.

    The thread writes in the order in which the data came, so that what is written does not depend on chance. What it
    raises is raised by the next call of any method.
    """

    def __init__(self, volume: Volume, writer: VolumeWriter, csums: PendingCsums) -> None:
        self._volume, self._writer, self._csums = volume, writer, csums
        self._threads: ThreadPoolExecutor | None = None  # none before there is something to write beside other work
        self._under_way: deque[tuple[int, int, Future[bytes]]] = deque()
        self._parts: list[bytes | memoryview] = []
        self._start = self._end = 0
        self._summed = True

    def append(self, logical: int, data: bytes | memoryview, length: int, *, summed: bool) -> None:
        """Write *data*, filled up with zeros to *length* whole sectors, to *logical*; with *summed* also its checksums.

        The data must not be changed before `flush`.
        """
        if logical != self._end or summed != self._summed:
            self._send()
            self._start, self._summed = logical, summed
        self._parts.append(data)
        if len(data) < length:
            self._parts.append(bytes(length - len(data)))
        self._end = logical + length
        if self._end - self._start >= FULL:
            self._send()

    def flush(self) -> None:
        """Return when everything is with the writer, and the checksums are with the collector."""
        if self._threads:
            self._send()
            self._collect(0)
        elif self._parts:
            self._csums_of(self._start, self._write(self._start, self._parts, summed=self._summed))
            self._parts = []
            self._start = self._end

    def settle(self, logical: int, length: int) -> None:
        """Return when nothing is held back of *length* bytes at *logical*, so that they can be read."""
        end = logical + length
        if self._start < end and logical < self._end:
            self._send()
        if any(start < end and logical < stop for start, stop, _ in self._under_way):
            self._collect(0)

    def close(self) -> None:
        """Forget what is not yet written, and end the thread."""
        self._parts.clear()
        self._under_way.clear()
        if self._threads:
            self._threads.shutdown(cancel_futures=True)

    def _send(self) -> None:
        if self._parts:
            if self._threads is None:
                from concurrent.futures import ThreadPoolExecutor

                self._threads = ThreadPoolExecutor(1)
            self._collect(_UNDER_WAY - 1)
            job = self._threads.submit(self._write, self._start, self._parts, summed=self._summed)
            self._under_way.append((self._start, self._end, job))
            self._parts = []
        self._start = self._end

    def _collect(self, most: int) -> None:
        """Wait until at most *most* writes are under way."""
        while len(self._under_way) > most:
            logical, _, job = self._under_way.popleft()
            self._csums_of(logical, job.result())

    def _csums_of(self, logical: int, sums: bytes) -> None:
        if sums:
            self._csums.put(logical, sums)

    def _write(self, logical: int, parts: list[bytes | memoryview], *, summed: bool) -> bytes:
        data = parts[0] if len(parts) == 1 else b"".join(parts)
        sums = self._sums(data) if summed else b""
        self._writer.write(logical, data)
        return sums

    def _sums(self, data: bytes | memoryview) -> bytes:
        """Return the checksums of the sectors of *data*, one after the other."""
        view, size = memoryview(data), self._volume.sectorsize
        return self._volume.csum.digests([view[at : at + size] for at in range(0, len(view), size)])
