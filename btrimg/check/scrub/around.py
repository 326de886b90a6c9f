"""Copies that the kernel's page cache does not hold, read around it.

Nobody is going to read them again, so to keep them would push out what others read; and to give pages to the cache
takes most of the time: 3 GB from a disk that gives 1.5 GB/s take 1.3 s of a processor with it, 0.3 s without.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from btrimg.check.scrub.copies import neighbours, parts_of
from btrimg.errors import DeviceError
from btrimg.units import KIB, MIB
from btrimg.volume.around import DirectDevices, direct_memory
from btrimg.volume.cachestat import cached_bytes
from btrimg.volume.mapping import GRAIN

if TYPE_CHECKING:
    from btrimg.check.scrub.copies import Pieces
    from btrimg.volume.device import Device
    from btrimg.volume.volume import Volume

_GAP = 128 * KIB  #: between parts that are read at once, with what lies between them
_SHORT = 512 * KIB  #: reads that are no longer on average are better left to the kernel, which begins several at once
_ROOM = 8 * MIB  #: for what is read at once


def new_room() -> memoryview:
    """Return memory for one caller of ``AroundReader.read``."""
    return direct_memory(_ROOM)


class AroundReader:
    """Reads copies around the page cache, in any thread; the devices of a volume are open once more until ``close``."""

    def __init__(self, volume: Volume) -> None:
        self._direct = DirectDevices(volume)

    def close(self) -> None:
        """Close what was opened; a second call does nothing."""
        self._direct.close()

    def read(self, pieces: Pieces, groups: range, copy: int, room: memoryview) -> list[memoryview] | None:
        """Return the parts of one copy of neighbouring *groups*, valid until *room* is given again.

        None where most of it is in the page cache, where reading it so would be slower, or where it cannot be.
        """
        devids, starts, lengths = parts_of(pieces, groups, copy)
        ends = starts + lengths
        runs = neighbours(devids, starts, ends, _GAP)
        if len(runs) * _SHORT > lengths.sum() or ((starts | lengths) % GRAIN).any():
            return None
        used, parts = 0, list[memoryview]()
        for some in runs:
            first, length = int(starts[some[0]]), int(ends[some[-1]] - starts[some[0]])
            direct, part = self._direct.get(int(devids[some[0]])), room[used : used + length]
            if direct is None or len(part) < length or _is_mostly_cached(direct, first, length):
                return None
            try:
                direct.pread_into(part, first)
            except DeviceError:
                return None
            for at, size in zip((starts[some] - first).tolist(), lengths[some].tolist(), strict=True):
                parts.append(part[at : at + size])
            used += length
        return parts


def _is_mostly_cached(device: Device, start: int, length: int) -> bool:
    """Return whether the page cache has half of a part of a device, or more; or may have."""
    try:
        return 2 * cached_bytes(device.fileno(), start, length) >= length
    except OSError:
        return True
