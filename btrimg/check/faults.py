"""What scanning met, as rows of ``bad_blocks``, ``unread_trees`` and ``bad_items``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from btrimg.check.itemfaults import ITEM_FAULTS
from btrimg.errors import BlockError, CorruptError, ItemError
from btrimg.ondisk.constants import ItemType
from btrimg.tables.leafscan import holds_files

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from btrimg.check.itemfaults import ItemFaults

    Table = dict[str, NDArray[Any]]

_KIND_NAMES = np.array([f"UNKNOWN.{number}" for number in range(256)], object)
_KIND_NAMES[list(ItemType)] = [kind.name for kind in ItemType]


def bad_blocks(faults: Iterable[CorruptError]) -> Table:
    """Return a row for each fault of each block, of the error that says most of where it hangs."""
    found: dict[tuple[int, str], BlockError] = {}
    for error in faults:
        if isinstance(error, BlockError):
            known = found.setdefault((error.logical, error.fault), error)
            if known.parent is None and error.parent is not None:
                found[error.logical, error.fault] = error
    errors = list(found.values())
    return {
        "logical": np.array([error.logical for error in errors], np.uint64),
        "tree": np.array([error.tree or 0 for error in errors], np.uint64),
        "level": np.array([error.level or 0 for error in errors], np.uint8),
        "parent": np.array([error.parent or 0 for error in errors], np.uint64),
        "fault": np.array([error.fault for error in errors], object),
        "detail": np.array([error.detail for error in errors], object),
    }


def unread_trees(faults: Iterable[CorruptError]) -> Table:
    """Return the trees without files that blocks which could not be read hang in."""
    trees = {error.tree for error in faults if isinstance(error, BlockError) and error.tree}
    return {"tree": np.array(sorted(tree for tree in trees if not holds_files(tree)), np.uint64)}


def bad_items(faults: Iterable[CorruptError], judged: ItemFaults) -> Table:
    """Return a row for each item that was found at fault, and one for each thing that making rows met besides.

    What is neither a block nor an item has no place: its numbers are 0.
    """
    errors = {str(error): error for error in faults if not isinstance(error, BlockError)}.values()
    places = [(error.leaf, *error.key) if isinstance(error, ItemError) else (0, 0, 0, 0) for error in errors]
    leaf, objectid, kind, offset = np.array(places, np.uint64).reshape(-1, 4).T
    details = [error.detail if isinstance(error, ItemError) else str(error) for error in errors]
    zeros = np.zeros(len(details), np.uint64)
    met: Table = {
        "leaf": leaf,
        "tree": zeros,
        "objectid": objectid,
        "type": kind.astype(np.uint8),
        "offset": offset,
        "fault": np.array([ITEM_FAULTS.index(getattr(error, "fault", "malformed")) for error in errors], np.uint8),
        "found": zeros,
        "expected": zeros,
    }
    table = {name: np.concatenate([met[name], column]) for name, column in judged._asdict().items()}
    table["kind"] = _KIND_NAMES[table["type"]]
    table["fault"] = np.array(ITEM_FAULTS, object)[table["fault"]]
    table["detail"] = np.array([*details, *[""] * len(judged.leaf)], object)
    return table
