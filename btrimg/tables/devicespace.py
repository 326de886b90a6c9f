"""Rows of ``physical``: every device from end to end, cut wherever what it holds changes.

A device's pieces come from the chunk map; those that are mapped are cut at the edges of extents. Both come in batches:
a striped device of many terabytes has a piece for every 64 KiB.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from btrimg.errors import CorruptError
from btrimg.named import NamedTuple
from btrimg.tables.schema import DEVICE_HOLDS
from btrimg.volume import devicepieces
from btrimg.volume.devicemap import DeviceMap
from btrimg.volume.devicepieces import pieces_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import Any

    from numpy.typing import NDArray

    from btrimg.filesystem.image import Image
    from btrimg.volume.devicepieces import Pieces

    Ints = NDArray[np.int64]
    Table = Mapping[str, NDArray[Any]]

_END = (1 << 63) - 1
_MAPPED = devicepieces.KINDS.index("mapped")
_CODES = np.array([DEVICE_HOLDS.index("free" if kind == "mapped" else kind) for kind in devicepieces.KINDS], np.uint8)
_BLOCK, _DATA = map(DEVICE_HOLDS.index, ("tree block", "data"))


class Allocated(NamedTuple):
    """Allocated ranges of logical addresses, in order, none overlapping another."""

    start: Ints
    end: Ints
    holds: NDArray[np.uint8]  #: index into DEVICE_HOLDS
    edges: Ints  #: every start and end, in order and once, and one behind all


def physical(image: Image, tables: Callable[..., Mapping[str, Table]]) -> Iterator[Table]:
    """Yield batches of rows of the devices that are there, by devid and device offset, text as indexes of its words.

    *tables* gives further relations of the image. Of what overlaps on a device the first keeps the bytes, as
    ``DeviceMap`` has it; the image hears of it.
    """
    devices = DeviceMap(image.volume.chunk_map, image.volume.warn)
    allocated = _allocated(image, tables)
    for devid, device in sorted(image.volume.devices.items()):
        for pieces in pieces_of(devices, devid, device.size):
            yield from _rows(devid, pieces, allocated)


def _allocated(image: Image, tables: Callable[..., Mapping[str, Table]]) -> Allocated:
    """Return what the extent tree says, or what all trees use where it cannot be read whole."""
    before = image.faults
    extents = tables("extents")["extents"]
    if image.faults == before and len(extents["logical"]):
        return disjoint(extents["logical"], extents["length"], np.where(extents["kind"] == "data", _DATA, _BLOCK))
    image.report(CorruptError("the extent tree cannot be read, all trees are scanned"))
    found = tables("tree_blocks", "file_extents")
    blocks, files = found["tree_blocks"]["logical"], found["file_extents"]
    return disjoint(
        np.concatenate([blocks, files["extent"].view(np.uint64)]),
        np.append(np.full(len(blocks), image.volume.nodesize, np.uint64), files["extent_length"].view(np.uint64)),
        np.repeat([_BLOCK, _DATA], [len(blocks), len(files["extent"])]),
    )


def disjoint(logical: NDArray[np.uint64], length: NDArray[np.uint64], holds: Ints) -> Allocated:
    """Return ranges in order; of two that overlap the later one begins where the earlier one ends."""
    order = np.argsort(logical, kind="stable")
    start = np.minimum(logical[order], np.uint64(_END))
    end = (start + np.minimum(length[order], np.uint64(_END) - start)).view(np.int64)
    reached = np.maximum.accumulate(np.append(0, end))[:-1]
    start = np.maximum(start.view(np.int64), reached)
    kept = start < end
    start, end = start[kept], end[kept]
    edges = np.append(np.union1d(start, end), _END)
    return Allocated(start, end, holds[order][kept].astype(np.uint8), edges)


def _rows(devid: int, pieces: Pieces, allocated: Allocated) -> Iterator[Table]:
    """Yield the rows of *pieces*, no more at once than a batch of pieces may have."""
    edges, stop = allocated.edges, pieces.logical + pieces.length
    first = np.searchsorted(edges, pieces.logical, "right")
    inner = np.where(pieces.kind == _MAPPED, np.searchsorted(edges, stop, "left") - first, 0)
    ends = np.cumsum(inner + 1)
    for begin in range(0, int(ends[-1]), devicepieces.BATCH_ROWS):
        row = np.arange(begin, min(begin + devicepieces.BATCH_ROWS, int(ends[-1])))
        piece = np.searchsorted(ends, row, "right")
        following = first[piece] + inner[piece] - (ends[piece] - 1 - row)  # number of the edge that ends the row
        is_first, is_last = row == ends[piece] - 1 - inner[piece], row == ends[piece] - 1
        start = np.where(is_first, pieces.logical[piece], edges[following - 1])
        end = np.where(is_last, stop[piece], edges[following])
        yield _columns(devid, pieces, allocated, piece, start, end)


def _columns(devid: int, pieces: Pieces, allocated: Allocated, piece: Ints, start: Ints, end: Ints) -> Table:
    """Return rows, each the part [start, end) of the logical addresses of a *piece*."""
    holds = _CODES[pieces.kind[piece]]
    mapped = pieces.kind[piece] == _MAPPED
    extent = np.searchsorted(allocated.start, start, "right") - 1
    used = mapped & (extent >= 0) & (start < np.append(allocated.end, 0)[extent])
    holds[used] = allocated.holds[extent[used]]
    return {
        "devid": np.full(len(piece), devid, np.uint64),
        "physical": pieces.physical[piece] + start - pieces.logical[piece],
        "length": end - start,
        "holds": holds,
        "logical": np.maximum(start, 0),
        "chunk": np.maximum(pieces.chunk[piece], 0),
        "copy": pieces.number[piece],
        "extent": np.where(used, np.append(allocated.start, 0)[extent], 0),
    }
