"""A hash of columns of numbers: the same on every machine, and evenly spread; whoever wants to can forge it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Ints = NDArray[np.int64]

# Of SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014), in Stafford's variant 13.
_STEP, _FIRST, _SECOND = (np.uint64(each) for each in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))


def mix(*columns: Ints, seed: int = 0) -> Ints:
    """Return 64 bits for every row of *columns*, at least one, that depend on every bit of the row and the order."""
    mixed = np.full(len(columns[0]), seed, np.uint64)
    for column in columns:
        mixed += column.view(np.uint64)
        mixed += _STEP
        mixed ^= mixed >> np.uint64(30)
        mixed *= _FIRST
        mixed ^= mixed >> np.uint64(27)
        mixed *= _SECOND
        mixed ^= mixed >> np.uint64(31)
    return mixed.view(np.int64)
