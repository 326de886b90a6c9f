"""What is promised of units before they are read: of sectors by checksums, of tree blocks by the extent tree."""

from __future__ import annotations

from functools import reduce
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from btrimg.ondisk.blocks import Header
from btrimg.ondisk.constants import CsumType
from btrimg.ondisk.crcjoin import join
from btrimg.ondisk.csum import crc32c
from btrimg.ondisk.sealed import all_sealed

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from btrimg.check.scrub.copies import Pieces
    from btrimg.volume.volume import Volume

    Ints = NDArray[np.int64]
    Truths = NDArray[np.bool_]
    Units = NDArray[np.uint8]  # (units, bytes)

_CSUM_FIELD = 32  # bytes of a tree block before what its checksum covers
_LONG = 1 << 18  # bytes: what caches of the processor hold


class Promise(Protocol):
    """What is known of the units of some pieces, which are counted from the first of the first group."""

    def good(self, units: Units, first: int) -> Truths:
        """Return which of *units* are what they should be; *first* is the number of the first one."""

    def all_good(self, parts: Sequence[memoryview], first: int) -> bool:
        """Return whether all units, which fill *parts* one after the other, are what they should be."""


def digests(volume: Volume, units: Units) -> NDArray[np.void]:
    """Return the checksum of each of *units*."""
    return np.frombuffer(volume.csum.digests(units), f"V{volume.csum.size}")


class Sectors:
    """Sectors of data, and their checksums."""

    def __init__(self, volume: Volume, pieces: Pieces, sums: NDArray[np.void]) -> None:
        self._volume, self._sums, self._unit = volume, sums[pieces.numbers], pieces.unit

    def good(self, units: Units, first: int) -> Truths:
        """Return which of *units* have the right checksum."""
        same: Truths = digests(self._volume, units) == self._sums[first : first + len(units)]
        return same

    def all_good(self, parts: Sequence[memoryview], first: int) -> bool:
        """Return whether all have the right checksums; of CRC-32C that is told without one call for each sector."""
        if not _has_crcs(self._volume):
            return all(self.good(units, at).all() for at, units in _numbered(parts, self._unit, first))
        sums = self._sums[first : first + sum(map(len, parts)) // self._unit].view("<u4")
        return reduce(lambda crc, part: crc32c(part, crc), parts, 0) == int(join(sums[None], self._unit)[0])


class Blocks:
    """Tree blocks, and what the extent tree says of them: that they are there, and since when."""

    def __init__(self, volume: Volume, logical: NDArray[np.uint64], generation: NDArray[np.uint64]) -> None:
        self._volume, self._logical, self._generation = volume, logical, generation

    def good(self, units: Units, first: int) -> Truths:
        """Return which of *units* are intact, of this filesystem, and the blocks that should be there.

        As the kernel's scrub has it (fs/btrfs/scrub.c ``scrub_verify_one_metadata``).
        """
        stored = np.ascontiguousarray(units[:, : self._volume.csum.size]).view(f"V{self._volume.csum.size}")[:, 0]
        good: Truths = self._belong(units, first) & (digests(self._volume, units[:, _CSUM_FIELD:]) == stored)
        return good

    def _belong(self, units: Units, first: int) -> Truths:
        """Return which of *units* say that they are the blocks that should be there."""
        heads: Any = np.ascontiguousarray(units[:, : Header.SIZE]).view(Header.dtype())[:, 0]
        some = slice(first, first + len(units))
        found = np.fromiter(map(self._volume.fsids.__contains__, heads["fsid"].tolist()), np.bool_, len(units))
        found &= (heads["bytenr"] == self._logical[some]) & (heads["generation"] == self._generation[some])
        return found

    def all_good(self, parts: Sequence[memoryview], first: int) -> bool:
        """Return whether all of them are; of CRC-32C that is told without one call for each block."""
        judge = self._all_sealed if _has_crcs(self._volume) else lambda units, at: bool(self.good(units, at).all())
        return all(judge(units, at) for at, units in _numbered(_together(parts), self._volume.nodesize, first))

    def _all_sealed(self, units: Units, first: int) -> bool:
        return bool(self._belong(units, first).all()) and all_sealed(units)


def _has_crcs(volume: Volume) -> bool:
    return volume.superblock.csum_type == CsumType.CRC32C


def _numbered(parts: Iterable[memoryview], size: int, first: int) -> Iterator[tuple[int, Units]]:
    """Yield the units of *size* bytes of each part, with the number of the first one."""
    for part in parts:
        units = np.frombuffer(part, np.uint8).reshape(-1, size)
        yield first, units
        first += len(units)


def _together(parts: Sequence[memoryview]) -> Iterator[memoryview]:
    """Yield *parts* with short ones joined: a call for many blocks is as long as one for a few."""
    waiting: list[memoryview] = []
    for part in parts:
        if len(part) >= _LONG:
            yield from _joined(waiting)
            waiting = []
            yield part
            continue
        waiting.append(part)
        if sum(map(len, waiting)) >= _LONG:
            yield from _joined(waiting)
            waiting = []
    yield from _joined(waiting)


def _joined(parts: Sequence[memoryview]) -> Iterator[memoryview]:
    if parts:
        yield memoryview(b"".join(parts))
