"""Free space besides what is in the public relations: heads of block groups in the free space tree, the v1 cache."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from btrimg.named import NamedTuple
from btrimg.ondisk.chunks import FreeSpaceInfo
from btrimg.ondisk.constants import ItemType
from btrimg.tables.cachedspace import cached_rows
from btrimg.tables.schema import FREE_SPACE
from btrimg.volume.devicemap import superblock_ranges

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from btrimg.check.makers import Scanned
    from btrimg.trees.leafbatch import LeafBatch

    Columns = dict[str, NDArray[Any]]


class Infos(NamedTuple):
    """The rows of ``free_space_infos`` of check/schema.py."""

    logical: NDArray[np.uint64]
    length: NDArray[np.uint64]
    extent_count: NDArray[np.uint32]
    flags: NDArray[np.uint32]


def infos(batch: LeafBatch) -> tuple[LeafBatch, Infos]:
    """Return the FREE_SPACE_INFO items of *batch*, and their rows."""
    items = batch.of_type(ItemType.FREE_SPACE_INFO)
    items = items.take(items.size >= FreeSpaceInfo.SIZE)
    record = items.records(FreeSpaceInfo)
    return items, Infos(items.objectid, items.offset, record["extent_count"], record["flags"])


def free_space_infos(scanned: Scanned) -> Columns:
    """Return the columns of ``free_space_infos`` of check/schema.py."""
    table = scanned.tables["free_space_infos"]
    table.finish()
    leaves = [scanned.scan.leaves_of(number) for number, _ in scanned.scan.trees_of(FREE_SPACE)]
    rows = table.rows_of(np.concatenate([np.empty(0, np.int64), *leaves]))
    return {name: column[rows] for name, column in table.rows._asdict().items()}


def cached_space(scanned: Scanned) -> Columns:
    """Return the columns of ``cached_space`` of check/schema.py."""
    cached = cached_rows(scanned.image)
    free = [np.asarray(cached[name]) for name in ("logical", "length")]
    chunks = scanned.image.volume.chunk_map if len(free[0]) else ()
    kept = [each for chunk in chunks for each in superblock_ranges(chunk)]
    logical, length = (np.array([row[at] for row in kept], np.uint64) for at in (0, 1))
    return {
        "logical": np.concatenate([free[0], logical]),
        "length": np.concatenate([free[1], length]),
        "reserved": np.repeat([False, True], [len(free[0]), len(kept)]),
    }
