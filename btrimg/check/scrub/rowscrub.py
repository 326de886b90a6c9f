"""Parity, row by row: P and Q computed from the data as they stand on the devices, and compared with what is there.

A row is judged sector by sector of its elements, a *line* at a time: the same sector of every element. The kernel
writes parity for the lines that it writes data to, and no others (fs/btrfs/raid56.c ``rmw_rbio``), so a line is judged
where a file or tree block of at least one column has been written. What stands in the other columns belongs to the
parity, whatever it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from btrimg.check.scrub.linejudge import LineJudge
from btrimg.check.scrub.logicalsets import Spans, intersection
from btrimg.errors import DeviceError
from btrimg.named import NamedTuple
from btrimg.ondisk.constants import STRIPE_LEN
from btrimg.trees.ahead import ahead
from btrimg.trees.batches import ranges
from btrimg.volume.profiles import data_columns, stripe_index

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from btrimg.check.scrub.badcopies import BadCopies
    from btrimg.check.scrub.contents import Contents
    from btrimg.filesystem.csums import Csums
    from btrimg.volume.chunkmap import MappedChunk
    from btrimg.volume.volume import Volume

    Ints = NDArray[np.int64]
    Words = NDArray[np.uint64]
    Truths = NDArray[np.bool_]
    Progress = Callable[[int], None]

_TASK_BYTES = 1 << 20  # of the rows that are read at once; a row of more columns is read alone
_WINDOW_SECTORS = 1 << 18  # of the lines that are marked at once

_TOP_BITS, _LOW_BITS = np.uint64(0x0101010101010101), np.uint64(0xFEFEFEFEFEFEFEFE)
_POLYNOMIAL = np.uint64(0x1D)  # of the field of Q, without its top bit; see btrimg.volume.parity


class Rows(NamedTuple):
    """Neighbouring rows of a chunk, and which of their lines are to be judged."""

    first: int
    lines: Truths  #: (rows, lines)


class RowScrub:
    """Judges the rows of chunks with parity; what is not good goes to *found*."""

    def __init__(
        self, volume: Volume, found: BadCopies, progress: Progress, contents: Contents, csums: Csums | None
    ) -> None:
        self._volume, self._progress, self._contents = volume, progress, contents
        self._judge = LineJudge(volume, found, contents, csums)

    def scrub(self, chunk: MappedChunk, backed: int) -> None:
        """Judge the rows of a chunk, of which the first *backed* bytes may lie on devices."""
        width, sector = len(chunk.stripes), self._volume.sectorsize
        at_once = max(1, _TASK_BYTES // (width * STRIPE_LEN))
        devices = [self._volume.devices.get(stripe.devid) for stripe in chunk.stripes]

        def work(rows: Rows, buffer: Words) -> Truths:
            """Return which lines of *rows* have another parity than they should, or cannot be told."""
            count = len(rows.lines)
            for stripe, device, into in zip(chunk.stripes, devices, buffer, strict=True):
                try:
                    if device is None:
                        return rows.lines
                    device.pread_into(into[:count].data, stripe.offset + rows.first * STRIPE_LEN)
                except DeviceError:
                    return rows.lines
            wrong = np.zeros(rows.lines.shape, np.bool_)
            for difference in _differences(chunk, rows.first, buffer[:, :count]):
                wrong |= difference.reshape(*wrong.shape, sector // 8).any(axis=2)
            return wrong & rows.lines

        def new_buffer() -> Words:
            return np.empty((width, at_once, STRIPE_LEN // 8), np.uint64)

        for marked in self._marked(chunk, backed):
            for rows, wrong in ahead(work, _tasks(marked, at_once), new_buffer):
                self._progress(len(rows.lines) * width * STRIPE_LEN)
                for row in np.flatnonzero(wrong.any(axis=1)).tolist():
                    self._judge.judge(chunk, rows.first + row, np.flatnonzero(wrong[row]))

    def _marked(self, chunk: MappedChunk, backed: int) -> Iterator[Rows]:
        """Yield the lines of a chunk that hold something written, in windows of bounded size."""
        sector = self._volume.sectorsize
        whole = Spans(np.array([chunk.logical]), np.array([chunk.logical + backed]))
        inside = intersection(self._contents.written, whole)
        per_row = data_columns(len(chunk.stripes), chunk.profile) * STRIPE_LEN
        window = max(1, _WINDOW_SECTORS * sector // per_row) * per_row
        start, end = inside.start - chunk.logical, inside.end - chunk.logical
        first = 0
        while len(start):
            first = max(first, int(start[0]) // window * window)
            here = int(np.searchsorted(start, first + window))
            begin, stop = start[:here] // sector, -(-np.minimum(end[:here], first + window) // sector)
            sectors = ranges(begin, stop - begin) - first // sector
            lines = np.zeros((window // per_row, STRIPE_LEN // sector), np.bool_)
            lines[sectors // (per_row // sector), sectors % lines.shape[1]] = True
            yield Rows(first // per_row, lines)
            first += window
            rest = int(np.searchsorted(end, first, "right"))
            start, end = np.maximum(start[rest:], first), end[rest:]


def _tasks(marked: Rows, at_once: int) -> list[Rows]:
    """Return the rows that have lines to judge, neighbours together as far as *at_once* are read."""
    rows = np.flatnonzero(marked.lines.any(axis=1))
    runs = np.split(rows, np.flatnonzero(np.diff(rows) > 1) + 1) if len(rows) else []
    return [
        Rows(marked.first + start, marked.lines[start : min(start + at_once, int(run[-1]) + 1)])
        for run in runs
        for start in range(int(run[0]), int(run[-1]) + 1, at_once)
    ]


def _differences(chunk: MappedChunk, first: int, stripes: Words) -> Iterator[Words]:
    """Yield how P, and Q if there is one, differ from what they should be: zeros where they do not.

    *stripes* are (stripes of the chunk, rows from *first* on, words).
    """
    width, profile = len(chunk.stripes), chunk.profile
    total: Words = np.bitwise_xor.reduce(stripes, axis=0)  # P is the sum of the data, so that all add up to nothing
    if profile.parity == 1:
        yield total
        return
    rows = np.arange(stripes.shape[1])

    def column(position: int) -> Words:
        found: Words = stripes[stripe_index(first + rows, position, width, profile), rows]
        return found

    stored = column(width - 1)
    yield total ^ stored
    q = column(width - profile.parity - 1)
    for position in range(width - profile.parity - 2, -1, -1):
        q = _doubled(q) ^ column(position)
    yield q ^ stored


def _doubled(words: Words) -> Words:
    """Return every byte times 2 in the field of Q."""
    doubled: Words = (words << np.uint64(1) & _LOW_BITS) ^ (words >> np.uint64(7) & _TOP_BITS) * _POLYNOMIAL
    return doubled
