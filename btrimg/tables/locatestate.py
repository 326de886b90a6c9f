"""Whether what stands at many places of devices is what was written there; :mod:`copystate` judges one."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import numpy as np

from btrimg.filesystem import copystate
from btrimg.filesystem.locate import TreeBlock
from btrimg.named import NamedTuple
from btrimg.ondisk.blocks import Key
from btrimg.trees.ahead import ahead
from btrimg.trees.batches import BatchReader
from btrimg.trees.distinct import different
from btrimg.volume.gather import device_order, gather

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from btrimg.filesystem.image import Image
    from btrimg.tables.locatescan import Extents
    from btrimg.trees.batches import BlockBatch

    Ints = NDArray[np.int64]
    Unsigned = NDArray[np.uint64]

T = TypeVar("T")

STATES = (copystate.NONE, copystate.OK, copystate.BAD, copystate.MISSING, copystate.UNCHECKED)
NONE, OK, BAD, MISSING, UNCHECKED = range(len(STATES))

_BATCH_BYTES = 4 << 20


class Places(NamedTuple):
    """Places on devices, one per row."""

    devid: Unsigned
    physical: Ints

    def take(self, rows: NDArray[np.intp]) -> Places:
        """Return some of the places."""
        return Places(self.devid[rows], self.physical[rows])


def sector_states(
    image: Image, places: Places, sums: NDArray[np.void], has_sum: NDArray[np.bool_]
) -> NDArray[np.uint8]:
    """Return the state of a sector at each of *places*, whose checksum is one of *sums* if it has one."""
    states = np.zeros(len(has_sum), np.uint8)

    def judge(rows: NDArray[np.intp], data: list[bytes | None]) -> NDArray[np.uint8]:
        found = np.frombuffer(image.volume.csum.digests([sector or b"" for sector in data]), sums.dtype)
        state = np.where(has_sum[rows], np.where(found == sums[rows], OK, BAD), NONE)
        return np.where([sector is None for sector in data], MISSING, state).astype(np.uint8)

    for rows, found in _judged(image, places, image.volume.sectorsize, judge):
        states[rows] = found
    return states


def block_states(
    image: Image, places: Places, extents: Extents, own: Ints
) -> tuple[NDArray[np.uint8], list[TreeBlock | None]]:
    """Return the state of the tree block at each of *places*, and what a good one says of itself, without its trees.

    *own* are the rows of *extents* that the places belong to.
    """
    logical, level, generation = extents.logical[own], extents.level[own], extents.generation[own]
    states, reader, nodesize = np.zeros(len(level), np.uint8), BatchReader(image.blocks), image.volume.nodesize
    blocks: list[TreeBlock | None] = [None] * len(level)
    for each in different(level).tolist():
        here = np.flatnonzero(level == each)

        def judge(rows: NDArray[np.intp], data: list[bytes | None], here: Ints = here, level: int = each) -> BlockBatch:
            whole = b"".join([block or bytes(nodesize) for block in data])
            batch = np.frombuffer(whole, np.uint8).reshape(len(data), nodesize)
            readable = np.array([block is not None for block in data])
            states[here[rows]] = np.where(readable, BAD, MISSING)
            return reader.judge(batch, logical[here[rows]], generation[here[rows]], level, readable)

        for rows, batch in _judged(image, places.take(here), nodesize, judge):
            good = np.flatnonzero(batch.good)
            states[here[rows[good]]] = OK
            for row, block in zip(here[rows[good]].tolist(), _tree_blocks(batch, good, each), strict=True):
                blocks[row] = block
    return states, blocks


def _tree_blocks(batch: BlockBatch, good: NDArray[np.intp], level: int) -> Iterator[TreeBlock]:
    count, ends = batch.counts[good], np.cumsum(batch.counts)[good]
    keys = batch.slots["key"]
    slots = np.stack([ends - count, ends - 1]) if len(keys) else np.zeros((2, 0), np.int64)
    columns = (keys[name][np.maximum(slots, 0) % max(len(keys), 1)] for name in ("objectid", "type", "offset"))
    first, last = (zip(*each, strict=True) for each in zip(*(column.tolist() for column in columns), strict=True))
    heads = batch.heads[good]
    rows = zip(heads["generation"].tolist(), heads["owner"].tolist(), count.tolist(), first, last, strict=True)
    for generation, owner, items, low, high in rows:
        yield TreeBlock(level, generation, owner, (), Key(*low) if items else None, Key(*high) if items else None)


def _judged(
    image: Image, places: Places, size: int, judge: Callable[[NDArray[np.intp], list[bytes | None]], T]
) -> Iterator[tuple[NDArray[np.intp], T]]:
    """Yield what *judge* makes of the *size* bytes at some places, and the numbers of these, in order of device offset.

    It is given these numbers and the bytes, None where they could not be read, in the thread that read them.
    """
    order = device_order(*places)
    step = max(1, _BATCH_BYTES // size)

    def load(start: int, _buffer: bool) -> T:
        some = order[start : start + step]
        return judge(some, gather(image.volume, *places.take(some), size))

    for start, found in ahead(load, range(0, len(order), step), lambda: True):
        yield order[start : start + step], found
