"""The matrix of images that every reader is tried on: profiles, node sizes, checksums, compressions."""

from __future__ import annotations

import itertools
import os
from typing import NamedTuple

from .images import MIB

PROFILES = ("single", "dup", "raid0", "raid1", "raid1c3", "raid1c4", "raid10", "raid5", "raid6")
NODESIZES = (4096, 16384, 65536)
CSUMS = ("crc32c", "xxhash", "sha256", "blake2")
COMPRESSIONS = ("zlib", "lzo", "zstd")


class Variant(NamedTuple):
    """One cell of the matrix."""

    profile: str
    nodesize: int
    csum: str
    compression: str


def variants() -> list[Variant]:
    """Return cells in which every pair of values of two dimensions meets; all 324 with BTRIMG_FULL_MATRIX=1."""
    everything = [Variant(*cell) for cell in itertools.product(PROFILES, NODESIZES, CSUMS, COMPRESSIONS)]
    if os.environ.get("BTRIMG_FULL_MATRIX") == "1":
        return everything
    chosen: list[Variant] = []
    uncovered = {pair for cell in everything for pair in _pairs(cell)}
    while uncovered:
        best = max(everything, key=lambda cell: len(uncovered & _pairs(cell)))
        chosen.append(best)
        uncovered -= _pairs(best)
    return chosen


def _pairs(cell: Variant) -> set[tuple[object, ...]]:
    return set(itertools.combinations(enumerate(cell), 2))


def name_of(cell: Variant) -> str:
    """Return the name that the tests of a cell have."""
    return "-".join(map(str, cell))


def options_of(cell: Variant) -> dict[str, object]:
    """Return what makes the cell's image: the same options everywhere, so that the session makes it once."""
    room = 512 * MIB if cell.nodesize == 65536 else 256 * MIB  # sparse; large nodes take more metadata
    return {**cell._asdict(), "size": room}
