"""Bytes that lie over those of a device, in memory or in a file without a name."""

from __future__ import annotations

import os
from bisect import bisect_left, bisect_right

from btrimg.named import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator


class Part(NamedTuple):
    """Bytes at a range of a device."""

    start: int
    end: int
    source: Source
    offset: int  #: of the first byte in the source


class Source:
    """Bytes of one write."""

    __slots__ = ("_data",)

    def __init__(self, data: bytes) -> None:
        self._data = data

    def read(self, start: int, end: int) -> bytes:
        """Return bytes."""
        return self._data[start:end]


class SpilledSource(Source):
    """Bytes of one write, in a file."""

    __slots__ = ("_at", "_fd")

    def __init__(self, data: bytes, fd: int, at: int) -> None:
        super().__init__(b"")
        self._fd, self._at = fd, at
        left = memoryview(data)
        while left:
            count = os.pwrite(fd, left, at)
            left, at = left[count:], at + count

    def read(self, start: int, end: int) -> bytes:
        """Return bytes."""
        data = b""
        while len(data) < end - start:
            data += os.pread(self._fd, end - start - len(data), self._at + start + len(data))
        return data


class Layer:
    """Parts that do not overlap; what is put later covers what was there."""

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._parts: list[Part] = []
        self._kept: list[Part] = []

    def __bool__(self) -> bool:
        return bool(self._parts)

    def put(self, start: int, end: int, source: Source) -> None:
        """Let the bytes of *source* stand at [start, end)."""
        first, last = self._touched(start, end)
        parts = [Part(start, end, source, 0)]
        if first < last:
            before, after = self._parts[first], self._parts[last - 1]
            if before.start < start:
                parts.insert(0, before._replace(end=start))
            if after.end > end:
                parts.append(after._replace(start=end, offset=after.offset + end - after.start))
        self._parts[first:last] = parts
        self._starts[first:last] = [part.start for part in parts]

    def _touched(self, start: int, end: int) -> tuple[int, int]:
        first = bisect_right(self._starts, start) - 1
        if first < 0 or self._parts[first].end <= start:
            first += 1
        return first, bisect_left(self._starts, end, first)

    def whole(self, start: int, end: int) -> bytes | None:
        """Return the bytes at [start, end), if one part has all of them."""
        at = bisect_right(self._starts, start) - 1
        if at < 0 or self._parts[at].end < end:
            return None
        part = self._parts[at]
        return part.source.read(part.offset + start - part.start, part.offset + end - part.start)

    def cover(self, buffer: memoryview, offset: int) -> None:
        """Bring what lies over [offset, offset + its length) into *buffer*, which has what stands below."""
        end = offset + len(buffer)
        for part in self._parts[slice(*self._touched(offset, end))]:
            first, last = max(part.start, offset), min(part.end, end)
            at = part.offset - part.start
            buffer[first - offset : last - offset] = part.source.read(at + first, at + last)

    def covers(self, start: int, end: int) -> bool:
        """Return whether anything lies over [start, end)."""
        first, last = self._touched(start, end)
        return first < last

    def runs(self, longest: int) -> Iterator[tuple[int, list[bytes]]]:
        """Yield (start, data) in order, neighbours joined up to *longest* bytes, which a part may have more of."""
        start = end = 0
        joined: list[bytes] = []
        for part in self._parts:
            if joined and (part.start != end or end - start >= longest):
                yield start, joined
                joined = []
            start = start if joined else part.start
            joined.append(part.source.read(part.offset, part.offset + part.end - part.start))
            end = part.end
        if joined:
            yield start, joined

    def ranges(self) -> Iterator[tuple[int, int]]:
        """Yield (start, end), neighbours joined, in order."""
        start = end = -1
        for part in self._parts:
            if part.start != end:
                if end >= 0:
                    yield start, end
                start = part.start
            end = part.end
        if end >= 0:
            yield start, end

    def cut(self, size: int) -> None:
        """Forget what lies behind *size*."""
        while self._parts and self._parts[-1].end > size:
            part = self._parts.pop()
            self._starts.pop()
            if part.start < size:
                self._parts.append(part._replace(end=size))
                self._starts.append(part.start)

    def clear(self) -> None:
        """Forget all but what was kept."""
        self._parts = list(self._kept)
        self._starts = [part.start for part in self._parts]

    def keep(self) -> None:
        """Let what there is be what :meth:`clear` goes back to."""
        self._kept = list(self._parts)
