"""Many logical addresses at once: the chunk map as arrays, for the bulk path."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from btrimg.named import NamedTuple
from btrimg.ondisk.constants import STRIPE_LEN
from btrimg.volume.profiles import PROFILES, stripe_index_and_offset

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from btrimg.volume.chunkmap import ChunkMap

MAX_COPIES = max(profile.copies for profile in PROFILES.values())


class Places(NamedTuple):
    """Where many bytes lie; row k of *devid* and *physical* is copy k of each, for k below *copies*."""

    devid: NDArray[np.uint64]  #: (MAX_COPIES, n)
    physical: NDArray[np.int64]  #: (MAX_COPIES, n)
    copies: NDArray[np.uint8]  #: 0 where no chunk maps the address
    contiguous: NDArray[np.int64]  #: bytes from here on that are contiguous on every copy, 0 where no chunk maps it


class PlaceMap:
    """The chunks of a filesystem, ready to translate arrays of logical addresses."""

    def __init__(self, chunks: ChunkMap) -> None:
        stripes = [stripe for chunk in chunks for stripe in chunk.stripes]
        self._start = np.array([chunk.logical for chunk in chunks], np.int64)
        self._end = np.array([chunk.end for chunk in chunks], np.int64)
        self._first_stripe = np.cumsum([0, *(len(chunk.stripes) for chunk in chunks)])[:-1]
        self._devid = np.array([stripe.devid for stripe in stripes], np.uint64)
        self._offset = np.array([stripe.offset for stripe in stripes], np.int64)
        shapes = [(chunk.profile, len(chunk.stripes)) for chunk in chunks]
        self._shapes = sorted(set(shapes))
        self.most_copies = max((profile.copies for profile, _ in self._shapes), default=0)  #: of any chunk
        self._shape = np.array([self._shapes.index(shape) for shape in shapes], np.intp)

    def locate(self, logical: NDArray[np.uint64]) -> Places:
        """Return where the bytes at the addresses *logical* lie."""
        count = len(logical)
        places = Places(
            np.zeros((MAX_COPIES, count), np.uint64),
            np.zeros((MAX_COPIES, count), np.int64),
            np.zeros(count, np.uint8),
            np.zeros(count, np.int64),
        )
        if not self._shapes:
            return places
        address = logical.view(np.int64)  # chunks end below 2**63: what is above looks negative, and is in none
        chunk = np.maximum(np.searchsorted(self._start, address, "right") - 1, 0)
        mapped = (address >= self._start[chunk]) & (address < self._end[chunk])
        shape = np.where(mapped, self._shape[chunk], -1)
        for number in range(len(self._shapes)):
            here = np.flatnonzero(shape == number)
            if len(here):
                self._locate(places, number, here, chunk[here], address[here])
        return places

    def ends(self, logical: NDArray[np.uint64]) -> NDArray[np.int64]:
        """Return where the chunk of each of the addresses *logical* ends, 0 where no chunk maps it."""
        if not len(self._end):
            return np.zeros(len(logical), np.int64)
        address = logical.view(np.int64)
        chunk = np.maximum(np.searchsorted(self._start, address, "right") - 1, 0)
        mapped = (address >= self._start[chunk]) & (address < self._end[chunk])
        return np.where(mapped, self._end[chunk], 0)

    def starts(self, logical: NDArray[np.uint64]) -> NDArray[np.int64]:
        """Return where the chunk of each of the addresses *logical* starts, -1 where no chunk maps it."""
        if not len(self._end):
            return np.full(len(logical), -1, np.int64)
        address = logical.view(np.int64)
        chunk = np.maximum(np.searchsorted(self._start, address, "right") - 1, 0)
        mapped = (address >= self._start[chunk]) & (address < self._end[chunk])
        return np.where(mapped, self._start[chunk], -1)

    def _locate(
        self, places: Places, shape: int, here: NDArray[np.intp], chunk: NDArray[np.intp], address: NDArray[np.int64]
    ) -> None:
        """Fill in the *places* number *here*, of addresses in chunks that all have one *shape*."""
        profile, width = self._shapes[shape]
        offset = address - self._start[chunk]
        for copy in range(profile.copies):
            index, within = stripe_index_and_offset(offset, width, profile, copy)
            stripe = self._first_stripe[chunk] + index
            places.devid[copy, here] = self._devid[stripe]
            places.physical[copy, here] = self._offset[stripe] + within
        places.copies[here] = profile.copies
        left = self._end[chunk] - address
        if width > profile.copies:
            left = np.minimum(left, STRIPE_LEN - offset % STRIPE_LEN)
        places.contiguous[here] = left
