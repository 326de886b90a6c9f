"""Copies of logical bytes, one by one: read and written in a draft, parity kept right."""

from __future__ import annotations

from typing import TYPE_CHECKING

from btrimg.errors import DeviceError, NotFoundError
from btrimg.volume.draft import Draft
from btrimg.volume.parity import compute_p, compute_q

if TYPE_CHECKING:
    from collections.abc import Iterator

    from btrimg.volume.chunkmap import Location, MappedChunk
    from btrimg.volume.volume import Volume


class Storage:
    """The logical address space of a volume, copy by copy; what is written stays in :attr:`draft`."""

    def __init__(self, volume: Volume) -> None:
        self.draft = Draft(volume.devices)
        self.chunks, self._devices = volume.chunk_map, volume.devices

    def copies(self, logical: int, length: int) -> list[int]:
        """Return the numbers of the copies of a range whose devices are there.

        Raises CorruptError when it lies in no chunk, DeviceError when there is no copy.
        """
        pieces = list(self._pieces(logical, length))
        count = min(chunk.profile.copies for chunk, _, _ in pieces)
        found = [
            copy
            for copy in range(count)
            if all(chunk.locate(at).copies[copy].devid in self._devices for chunk, at, _ in pieces)
        ]
        if not found:
            raise DeviceError(f"no device that holds the {length} bytes at logical {logical} is there")
        return found

    def read(self, logical: int, length: int, copy: int) -> bytes:
        """Return the bytes of one *copy*; raise NotFoundError when there are not so many."""
        return b"".join(
            self.draft.read(*_place(chunk, at, copy), size) for chunk, at, size in self._pieces(logical, length)
        )

    def write(self, logical: int, data: bytes, copy: int, *, parity: bool) -> None:
        """Write *data* to one *copy*, and with *parity* the P and Q of the rows that it lies in."""
        done = 0
        for chunk, at, size in self._pieces(logical, len(data)):
            self.draft.write(*_place(chunk, at, copy), data[done : done + size])
            done += size
            if parity and chunk.profile.parity:
                self._update_parity(chunk, at, size)

    def _update_parity(self, chunk: MappedChunk, logical: int, length: int) -> None:
        places = chunk.row(logical).places
        columns = len(places) - chunk.profile.parity
        data = [self.draft.read(*place, length) for place in places[:columns]]
        for place, compute in zip(places[columns:], (compute_p, compute_q), strict=False):
            self.draft.write(*place, compute(data))

    def _pieces(self, logical: int, length: int) -> Iterator[tuple[MappedChunk, int, int]]:
        """Yield (chunk, logical, bytes) of the parts of a range that are contiguous on each device."""
        while length > 0:
            chunk = self.chunks.find(logical)
            size = min(length, chunk.locate(logical).length)
            yield chunk, logical, size
            logical, length = logical + size, length - size


def _place(chunk: MappedChunk, logical: int, copy: int) -> Location:
    copies = chunk.locate(logical).copies
    if copy >= len(copies):
        raise NotFoundError(f"there is no mirror {copy} of logical {logical}, which is on {chunk.profile.name}")
    return copies[copy]
