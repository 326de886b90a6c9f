"""A chunk in grains: the smallest parts that it can be cut into while every byte keeps its logical address.

A grain is a row of the chunk, so that its first byte lies in the first column; where parity turns from row to row, as
many rows as bring it back to the first stripe. Cut between two grains, a chunk becomes two chunks with the same bytes
at the same places, as long as no extent lies across the cut: an extent is in one block group.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING

from btrimg.errors import CorruptError
from btrimg.ondisk.constants import STRIPE_LEN

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from btrimg.volume.chunkmap import MappedChunk

    Range = tuple[int, int]  # start and end


class Grains:
    """The grains of one chunk, by number: which are in use, and between which it can be cut."""

    def __init__(self, chunk: MappedChunk, extents: Iterable[Range]) -> None:
        """Learn from the *extents* of the chunk, as logical start and end, which grains they take.

        Raises CorruptError when one reaches out of the chunk.
        """
        self.chunk = chunk
        turns = len(chunk.stripes) if chunk.profile.turns else 1
        self.physical = STRIPE_LEN * turns  #: bytes of a grain on each stripe
        self.logical = self.physical * (chunk.columns if chunk.striped else 1)  #: bytes of a grain
        self.count = -(-chunk.length // self.logical)
        self._used, self._uncut = bytearray(self.count), bytearray(self.count + 1)
        self.extents = list(extents)
        self.bytes_used = sum(end - start for start, end in self.extents)
        for start, end in self.extents:
            if not chunk.logical <= start < end <= chunk.end:
                raise CorruptError(f"extent {start} of {end - start} bytes reaches out of chunk {chunk.logical}")
            first = (start - chunk.logical) // self.logical
            last = -(-(end - chunk.logical) // self.logical)
            self._used[first:last] = b"\1" * (last - first)
            self._uncut[first + 1 : last] = b"\1" * (last - first - 1)

    def start_of(self, grain: int) -> int:
        """Return the logical address of a grain; of the one behind the last, that of the chunk's end."""
        return min(self.chunk.logical + grain * self.logical, self.chunk.end)

    def footprint(self, first: int, last: int) -> int:
        """Return the bytes that grains [first, last) take on each stripe."""
        if last < self.count:
            return (last - first) * self.physical
        return self.chunk.stripe_length - first * self.physical

    def extents_of(self, first: int, last: int) -> list[Range]:
        """Return the extents in grains [first, last), which none of them crosses the edge of."""
        start, end = self.start_of(first), self.start_of(last)
        return self.extents[bisect_left(self.extents, (start, 0)) : bisect_left(self.extents, (end, 0))]

    def pin(self, first: int, last: int) -> None:
        """Take grains for used, so that they are kept."""
        self._used[first:last] = b"\1" * (min(last, self.count) - first)

    def cut_before(self, grain: int) -> int:
        """Return the greatest number up to *grain* of a grain before which the chunk can be cut."""
        return self._uncut.rfind(0, 0, grain + 1)

    def used(self, first: int, last: int, least: int = 1) -> Iterator[Range]:
        """Yield the runs of grains in use among [first, last); fewer than *least* free ones do not end a run."""
        at = self._used.find(1, first, last)
        while at >= 0:
            end = at
            while end >= 0:
                free = self._used.find(0, end, last)
                end = self._used.find(1, free, last) if free >= 0 else -1
                if free < 0:
                    free = last
                if end < 0 or end - free >= least:
                    break
            yield at, free
            at = end
