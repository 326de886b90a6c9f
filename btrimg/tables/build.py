"""Relations as columns: every leaf that holds some of the wanted rows is read, verified and decoded once.

The rows of a leaf are made once, whatever the number of snapshots that share it; the rows of a tree are then gathered
by the numbers of its leaves. There is no loop over items, only over batches of leaves, trees and relations.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from btrimg.errors import CorruptError, NotFoundError
from btrimg.filesystem import strings
from btrimg.filesystem.forest import item_roots, superblock_roots
from btrimg.filesystem.image import root_pointer
from btrimg.filesystem.leafrows import LeafTable
from btrimg.filesystem.strings import Strings
from btrimg.ondisk.blocks import Header, Item, KeyPtr
from btrimg.ondisk.constants import MAX_LEVEL, TreeId
from btrimg.tables import devicerows, devicespace, fewrows, filerows, schema, spacerows
from btrimg.tables.schema import RELATIONS
from btrimg.trees.block import is_subvolume
from btrimg.trees.scan import Forest

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from btrimg.filesystem.image import Image
    from btrimg.tables.relation import Column, Relation
    from btrimg.trees.block import Pointer
    from btrimg.trees.scan import LeafBatch

    Ints = NDArray[np.int64]
    Table = dict[str, NDArray[Any]]  # columns by name, all of one length; text as objects
    Columns = Mapping[str, NDArray[Any] | Strings]
    Taken = tuple[LeafBatch, Columns]  # an item for each row, in order of leaf, and the rows
    Take = Callable[[LeafBatch, "Facts"], Taken]
    Trees = list[tuple[int, Pointer]]  # with ids


class Facts(NamedTuple):
    """What making rows needs to know of the image besides leaves."""

    nodesize: int  #: bytes
    sectorsize: int  #: bytes that one checksum covers
    csum_size: int  #: bytes of one
    device_paths: dict[int, bytes]  #: by devid
    report: Callable[[CorruptError], None]


TAKES: dict[str, Take] = {  # relations whose rows are those of leaves
    "devices": devicerows.devices,
    "chunks": devicerows.chunks,
    "stripes": devicerows.stripes,
    "dev_extents": devicerows.dev_extents,
    "block_groups": spacerows.block_groups,
    "roots": devicerows.roots,
    "inodes": filerows.inodes,
    "names": filerows.names,
    "xattrs": filerows.xattrs,
    "file_extents": filerows.file_extents,
    "extents": spacerows.extents,
    "backrefs": spacerows.backrefs,
    "csums": spacerows.csums,
    "free_space": spacerows.free_space,
    "orphans": filerows.orphans,
}
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
    built = {name: _few(RELATIONS[name], FEW[name](image)) for name in names if name in FEW}
    leaves = [RELATIONS[name] for name in names if name in TAKES]
    if leaves:
        built |= _Scan(image, leaves).tables()
    if schema.TREE_BLOCKS.name in names:
        built[schema.TREE_BLOCKS.name] = tree_blocks(image)
    if schema.PHYSICAL_RANGES.name in names:
        parts = devicespace.physical(image, lambda *needed: build(image, needed))
        built[schema.PHYSICAL_RANGES.name] = _joined(schema.PHYSICAL_RANGES, parts)
    return {name: built[name] for name in names}


def _few(relation: Relation, rows: Iterable[fewrows.Row]) -> Table:
    found = list(rows)
    columns = {}
    for column in relation.columns:
        values = [row[column.name] for row in found]
        made = strings.of_list(values) if column.type == "text" else np.array(values, column.type)
        columns[column.name] = _finished(column, made, np.arange(len(found)))
    return columns


def _joined(relation: Relation, parts: Iterable[Columns]) -> Table:
    several = list(parts)
    columns = {}
    for column in relation.columns:
        values = np.concatenate([part[column.name] for part in several])
        columns[column.name] = _finished(column, values, np.arange(len(values)))
    return columns


def _finished(column: Column, values: NDArray[Any] | Strings, rows: Ints) -> NDArray[Any]:
    """Return the *rows* of a column as they are handed out."""
    if isinstance(values, Strings):
        found: list[Any] = values.to_list()
        if column.type == "text":
            found = [value.decode("utf-8", "backslashreplace") for value in found]
        return _objects(found)[rows]
    if column.words:
        return _objects(column.words)[values[rows].astype(np.uint8)]
    return np.ascontiguousarray(values[rows], column.type)


def _objects(values: Sequence[object]) -> NDArray[np.object_]:
    array = np.empty(len(values), object)
    array[:] = values
    return array


class _Scan:
    """The trees that some relations come from, read together."""

    def __init__(self, image: Image, relations: Sequence[Relation]) -> None:
        self._relations = relations
        volume = image.volume
        paths = {devid: os.fsencode(device.path) for devid, device in volume.devices.items()}
        facts = Facts(volume.nodesize, volume.sectorsize, volume.csum.size, paths, image.report)
        trees = {tree for relation in relations for tree in relation.trees}
        self._roots = [root for tree in sorted(trees) for root in _roots_of(image, tree)]
        self._forest = Forest(image.blocks, [at for _, at in self._roots], image.report)
        self._tables = [LeafTable(_taker(relation, facts)) for relation in relations]

    def tables(self) -> dict[str, Table]:
        for batch in self._forest.leaves():
            for table in self._tables:
                table.add(batch)
        leaves = [self._forest.leaves_of(number) for number in range(len(self._roots))]
        built = {}
        for relation in self._relations:
            table = self._tables.pop(0)  # so that its memory is free when the next one is made
            table.finish()
            built[relation.name] = self._gathered(relation, table, leaves)
        return built

    def _gathered(self, relation: Relation, table: LeafTable[tuple[Any, ...]], leaves: Sequence[Ints]) -> Table:
        """Return the rows of all trees of a relation, one tree after the other."""
        parts, trees = [np.empty(0, np.int64)], []
        for (tree, _), some in zip(self._roots, leaves, strict=True):
            if _kind_of(tree) in relation.trees:
                parts.append(table.rows_of(some))
                trees.append(tree)
        rows = np.concatenate(parts)
        columns: Table = {}
        if relation.tree:
            ids = np.array(trees, np.uint64)
            columns[relation.tree.name] = np.repeat(ids, [len(part) for part in parts[1:]])
        for column, values in zip(relation.columns, table.rows, strict=True):
            columns[column.name] = _finished(column, values, rows)
        return columns


def _kind_of(tree: int) -> int:
    return TreeId.FS_TREE if is_subvolume(tree) else tree


def _roots_of(image: Image, tree: TreeId) -> Trees:
    """Return the root of a tree, or of every subvolume; none where there is none or it cannot be found."""
    if tree == TreeId.FS_TREE:
        return [
            (each.id, root_pointer(each.id, each.root))
            for each in image.subvolumes()
            if each.root.refs or not each.root.drop_progress.objectid
        ]
    try:
        return [(tree, image.tree(tree).root)]
    except NotFoundError:
        return []
    except CorruptError as error:
        image.report(CorruptError(f"tree {tree} cannot be read: {error}"))
        return []


def _taker(relation: Relation, facts: Facts) -> Callable[[LeafBatch], tuple[LeafBatch, tuple[Any, ...]]]:
    """Return what takes the rows of a relation from leaves, its columns in order."""
    take = TAKES[relation.name]
    rows = NamedTuple("Rows", [(column.name, Any) for column in relation.columns])  # type: ignore[misc]

    def taken(batch: LeafBatch) -> tuple[LeafBatch, tuple[Any, ...]]:
        items, columns = take(batch, facts)
        return items, rows(**columns)

    return taken


def tree_blocks(image: Image) -> Table:
    """Return the rows of ``tree_blocks``, by address."""
    dropped = {each.id for each in image.subvolumes() if not each.root.refs and each.root.drop_progress.objectid}
    roots = [root.at for root in (*superblock_roots(image), *item_roots(image)) if root.id not in dropped]
    forest = Forest(image.blocks, roots, image.report)
    payloads = [np.zeros(0, np.int64)]
    for batch in forest.leaves():
        sizes = np.bincount(batch.leaf - batch.first_leaf, batch.size, batch.leaves)
        payloads.append(sizes.astype(np.int64))
    heads = [forest.heads(level) for level in range(MAX_LEVEL)]
    fill = [Header.SIZE + head["nritems"].astype(np.int64) * KeyPtr.SIZE for head in heads]
    fill[0] = Header.SIZE + heads[0]["nritems"].astype(np.int64) * Item.SIZE + np.concatenate(payloads)
    head, filled = np.concatenate(heads), np.concatenate(fill)
    logical, rows = np.unique(head["bytenr"], return_index=True)
    rows = rows[logical > 0]  # 0 stands for a block that could not be read
    columns = {"items": head["nritems"], "logical": head["bytenr"], "fill": filled}
    plain = ("owner", "level", "generation", "flags")
    columns |= {name: head[name] for name in plain}
    return {c.name: _finished(c, columns[c.name], rows) for c in schema.TREE_BLOCKS.columns}
