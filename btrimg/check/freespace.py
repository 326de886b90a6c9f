"""Heads of block groups in the free space tree."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from btrimg.ondisk.chunks import FreeSpaceInfo
from btrimg.ondisk.constants import ItemType

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from btrimg.check.evidence import Scanned
    from btrimg.trees.scan import LeafBatch


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


def free_space_infos(scanned: Scanned) -> dict[str, NDArray[Any]]:
    """Return the columns of ``free_space_infos`` of check/schema.py."""
    columns: dict[str, NDArray[Any]] = scanned.tables["free_space_infos"].rows._asdict()
    return columns
