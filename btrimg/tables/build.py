"""Relations as columns: every leaf that holds some of the wanted rows is read, verified and decoded once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from btrimg.filesystem import strings
from btrimg.filesystem.strings import Strings
from btrimg.tables import blockcopies, devicespace, fewrows, schema
from btrimg.tables.cachedspace import cached_rows
from btrimg.tables.leafscan import TAKES, Gathered, LeafScan, every_tree, trees_of_kind
from btrimg.tables.schema import RELATIONS

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from numpy.typing import NDArray

    from btrimg.filesystem.image import Image
    from btrimg.tables.leafscan import Columns
    from btrimg.tables.relation import Column, Relation

    Ints = NDArray[np.int64]
    Table = dict[str, NDArray[Any]]  # columns by name, all of one length; text as objects

FEW: dict[str, Callable[[Image], Iterator[fewrows.Row]]] = {
    "superblock": fewrows.superblock,
    "subvolumes": fewrows.subvolumes,
    "qgroups": fewrows.qgroups,
}


def build(image: Image, names: Collection[str]) -> dict[str, Table]:
    """Return the relations *names* of the image as columns, text as arrays of str objects and blobs of bytes.

    They are those of the last commit. What cannot be read is reported to *image* and skipped. A subvolume whose
    deletion has begun to free blocks has no rows.
    """
    built = {name: _finished(few(image, RELATIONS[name])) for name in names if name in FEW}
    leaves = [RELATIONS[name] for name in names if name in TAKES]
    if leaves:
        kinds = sorted({tree for relation in leaves for tree in relation.trees})
        scan = LeafScan(image, leaves, [root for kind in kinds for root in trees_of_kind(image, kind)])
        for relation in leaves:  # one by one, so that the memory of each is free when the next one is made
            built[relation.name] = _finished(scan.gathered(relation))
    if schema.FREE_SPACE.name in names:
        cached = _finished(of_columns(schema.FREE_SPACE, cached_rows(image)))
        found = built[schema.FREE_SPACE.name]
        built[schema.FREE_SPACE.name] = {name: np.append(found[name], more) for name, more in cached.items()}
    if schema.TREE_BLOCKS.name in names:
        blocks = blockcopies.tree_blocks(image, LeafScan(image, [], every_tree(image)))
        built[schema.TREE_BLOCKS.name] = _finished(of_columns(schema.TREE_BLOCKS_WITH_COPIES, blocks))
    if schema.PHYSICAL_RANGES.name in names:
        parts = list(devicespace.physical(image, lambda *needed: build(image, needed)))
        columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        built[schema.PHYSICAL_RANGES.name] = _finished(of_columns(schema.PHYSICAL_RANGES, columns))
    return {name: built[name] for name in names}


def few(image: Image, relation: Relation) -> Gathered:
    """Return a relation of FEW."""
    found = list(FEW[relation.name](image))
    columns = {}
    for column in relation.columns:
        values = [row[column.name] for row in found]
        columns[column.name] = strings.of_list(values) if column.type == "text" else np.array(values, column.type)
    return Gathered(relation, columns, np.arange(len(found)), np.empty(0, np.uint64))


def _finished(gathered: Gathered) -> Table:
    """Return the columns as they are handed out."""
    relation, table = gathered.relation, {}
    if relation.tree:
        table[relation.tree.name] = gathered.trees
    return table | {c.name: _values(c, gathered.different[c.name], gathered.rows) for c in relation.columns}


def of_columns(relation: Relation, columns: Columns) -> Gathered:
    """Return a relation of which all rows are in *columns*, once."""
    rows = np.arange(len(columns[relation.columns[0].name]))
    return Gathered(relation, columns, rows, np.empty(0, np.uint64))


def _values(column: Column, values: NDArray[Any] | Strings, rows: Ints) -> NDArray[Any]:
    """Return the *rows* of a column as they are handed out."""
    if isinstance(values, Strings):
        return objects_of(column, values)[rows]
    if column.words:
        return _objects(column.words)[values[rows].astype(np.uint8)]
    return np.ascontiguousarray(values[rows], column.type)


def objects_of(column: Column, values: Strings) -> NDArray[np.object_]:
    """Return text as str, bytes that are not UTF-8 as \\xNN, and blobs as bytes."""
    found: list[Any] = values.to_list()
    if column.type == "text":
        found = [value.decode("utf-8", "backslashreplace") for value in found]
    return _objects(found)


def _objects(values: Sequence[object]) -> NDArray[np.object_]:
    array = np.empty(len(values), object)
    array[:] = values
    return array
