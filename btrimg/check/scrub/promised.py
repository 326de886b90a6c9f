"""What is promised of units before they are read: of sectors by checksums, of tree blocks by the extent tree."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from btrimg.check.scrub.copies import GROUP_BYTES
from btrimg.ondisk.blocks import Header
from btrimg.ondisk.constants import CsumType
from btrimg.ondisk.crcjoin import join
from btrimg.ondisk.csum import crc32c

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from btrimg.check.scrub.copies import Pieces
    from btrimg.volume.volume import Volume

    Ints = NDArray[np.int64]
    Truths = NDArray[np.bool_]
    Units = NDArray[np.uint8]  # (units, bytes)

_CSUM_FIELD = 32  # bytes of a tree block before what its checksum covers


class Promise(Protocol):
    """What is known of the units of some pieces, which are counted from the first of the first group."""

    def good(self, units: Units, first: int) -> Truths:
        """Return which of *units* are what they should be; *first* is the number of the first one."""

    def all_good(self, group: int, units: Units) -> bool:
        """Return whether all units of a group are what they should be; False where that is not known at once."""


def digests(volume: Volume, units: Units) -> NDArray[np.void]:
    """Return the checksum of each of *units*."""
    return np.frombuffer(volume.csum.digests(units), f"V{volume.csum.size}")


class Sectors:
    """Sectors of data, and their checksums."""

    def __init__(self, volume: Volume, pieces: Pieces, sums: NDArray[np.void]) -> None:
        self._volume, self._sums = volume, sums[pieces.numbers]
        self._joined: NDArray[np.uint32] | None = None
        if volume.superblock.csum_type == CsumType.CRC32C:
            per_group = GROUP_BYTES // pieces.unit
            filled = np.zeros(pieces.groups * per_group, np.uint32)
            filled[len(filled) - len(self._sums) :] = self._sums.view("<u4")
            self._joined = join(filled.reshape(-1, per_group), pieces.unit)

    def good(self, units: Units, first: int) -> Truths:
        """Return which of *units* have the right checksum."""
        same: Truths = digests(self._volume, units) == self._sums[first : first + len(units)]
        return same

    def all_good(self, group: int, units: Units) -> bool:
        """Return whether a group has the right checksums; of CRC-32C that is told without one call for each sector."""
        return self._joined is not None and bool(crc32c(units.data) == self._joined[group])


class Blocks:
    """Tree blocks, and what the extent tree says of them: that they are there, and since when."""

    def __init__(self, volume: Volume, logical: NDArray[np.uint64], generation: NDArray[np.uint64]) -> None:
        self._volume, self._logical, self._generation = volume, logical, generation

    def good(self, units: Units, first: int) -> Truths:
        """Return which of *units* are intact, of this filesystem, and the blocks that should be there.

        As the kernel's scrub has it (fs/btrfs/scrub.c ``scrub_verify_one_metadata``).
        """
        heads: Any = np.ascontiguousarray(units[:, : Header.SIZE]).view(Header.dtype())[:, 0]
        stored = np.ascontiguousarray(units[:, : self._volume.csum.size]).view(f"V{self._volume.csum.size}")[:, 0]
        ours = np.fromiter(map(self._volume.fsids.__contains__, heads["fsid"].tolist()), np.bool_, len(units))
        some = slice(first, first + len(units))
        good: Truths = ours & (digests(self._volume, units[:, _CSUM_FIELD:]) == stored)
        good &= (heads["bytenr"] == self._logical[some]) & (heads["generation"] == self._generation[some])
        return good

    def all_good(self, group: int, units: Units) -> bool:
        """Return False: only ``good`` tells."""
        return False
