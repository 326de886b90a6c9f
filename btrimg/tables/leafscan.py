"""The rows of relations, taken from all leaves of some trees at once, and which of them are whose.

The rows of a leaf are made once, whatever the number of snapshots that share it; the rows of a tree are then gathered
by the numbers of its leaves. There is no loop over items, only over batches of leaves, trees and relations.
"""

from __future__ import annotations

import os
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from btrimg.errors import CorruptError, NotFoundError
from btrimg.filesystem.forest import deleted_pointers, item_roots, superblock_roots
from btrimg.filesystem.image import root_pointer
from btrimg.filesystem.leafrows import LeafTable
from btrimg.filesystem.strings import Slices, Strings
from btrimg.named import NamedTuple
from btrimg.ondisk.blocks import Header, Item, KeyPtr
from btrimg.ondisk.constants import MAX_LEVEL, TreeId
from btrimg.tables import devicerows, filerows, spacerows
from btrimg.tables.growing import GrowingParts
from btrimg.tables.hashes import fingerprints
from btrimg.trees.block import is_subvolume
from btrimg.trees.scan import Forest

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from numpy.typing import NDArray

    from btrimg.filesystem.image import Image
    from btrimg.filesystem.leafrows import Parts
    from btrimg.tables.relation import Column, Relation
    from btrimg.trees.block import Pointer
    from btrimg.trees.leafbatch import LeafBatch

    Ints = NDArray[np.int64]
    Columns = Mapping[str, NDArray[Any] | Strings]
    Made = Mapping[str, NDArray[Any] | Slices | Strings]
    Taken = tuple[LeafBatch, Made]  # an item for each row, in order of leaf, and the rows
    Take = Callable[[LeafBatch, "Facts"], Taken]
    Trees = list[tuple[int, Pointer]]  # with ids
    Further = Callable[["LeafScan"], Sequence[LeafTable[Any]]]  # takes a scan that has read the nodes only
    Soon = Callable[["LeafScan"], object]  # takes a scan that has read all but leaves of trees of files


class Facts(NamedTuple):
    """What making rows needs to know of the image besides leaves."""

    nodesize: int  #: bytes
    sectorsize: int  #: bytes that one checksum covers
    csum_size: int  #: bytes of one
    device_paths: dict[int, bytes]  #: by devid
    report: Callable[[CorruptError], None]
    numbered: bool = False  #: whether strings that stand in leaves become their ``fingerprints``


TAKES: dict[str, Take] = {  # by name of the relation
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


class Gathered(NamedTuple):
    """The rows of a relation, of which those that trees share are stored once.

    Text is in Strings, and that of a column with *words* as their indexes.
    """

    relation: Relation
    different: Columns  #: the columns but that of the tree
    rows: Ints  #: numbers of the rows among the different ones, tree after tree
    trees: NDArray[np.uint64]  #: id of the tree for each of *rows*

    def in_order(self) -> Gathered:
        """Return the same rows, each stored by itself in the place that it has; there is no text among the columns."""
        different: dict[str, Any] = dict(self.different)
        columns = {name: column[self.rows] for name, column in different.items()}
        return self._replace(different=columns, rows=np.arange(len(self.rows)))


class Deleted(NamedTuple):
    """Trees whose deletion has begun to free blocks."""

    trees: Trees
    freed: dict[int, int]  #: how many pointers, from the first on, of a node lead to freed blocks, by its address


class LeafScan:
    """The leaves of *trees*, read once, for some *relations* and for tables that *further* makes before.

    What is left of *deleted* trees is read, too, and in these tables, but in no relation. What cannot be read
    is reported to *image* and skipped. *soon* may ask for relations of which no tree has files. *parts* gives what
    holds copies of the rows of one relation. With *numbered*, names are numbers. *progress* hears how many more
    leaves, of how many bytes, are done.
    """

    def __init__(
        self,
        image: Image,
        relations: Collection[Relation],
        trees: Trees,
        further: Further = lambda _scan: (),
        deleted: Deleted | None = None,
        soon: Soon = lambda _scan: None,
        parts: Callable[[], Parts[Any]] = GrowingParts,
        numbered: bool = False,
        progress: Callable[[int, int], None] = lambda _leaves, _bytes: None,
    ) -> None:
        volume = image.volume
        paths = {devid: os.fsencode(device.path) for devid, device in volume.devices.items()}
        facts = Facts(volume.nodesize, volume.sectorsize, volume.csum.size, paths, image.report, numbered)
        self.trees = trees
        self.deleted = deleted or Deleted([], {})
        roots = [at for _, at in (*trees, *self.deleted.trees)]
        self.forest = Forest(image.blocks, roots, image.report, self.deleted.freed)
        self._taken = {relation.name: (relation.items, _taker(relation, facts)) for relation in relations}
        self._tables = {name: LeafTable(take, parts(), types) for name, (types, take) in self._taken.items()}
        self._payload_bytes = [np.zeros(0, np.int64)]
        self._leaves: dict[int, Ints] = {}
        self.leaves = len(self.forest.addresses(0))  #: how many there are
        self._read(further(self), soon, progress)

    def _read(self, further: Sequence[LeafTable[Any]], soon: Soon, progress: Callable[[int, int], None]) -> None:
        told = False
        for batch in self.forest.leaves():
            for table in (*self._tables.values(), *further):
                table.add(batch)
            for name, (types, take) in self._taken.items():
                if name not in self._tables and not batch.types.isdisjoint(types):
                    take(batch)  # for what it reports: of items that stand where there should be none
            batch.made.clear()  # before the next one is there
            payloads = np.bincount(batch.leaf - batch.first_leaf, batch.size, batch.leaves)
            self._payload_bytes.append(payloads.astype(np.int64))
            progress(batch.leaves, len(batch.data))
            if not told and batch.first_leaf + batch.leaves >= self.forest.first_of_files:
                soon(self)
                told = True
        for table in further:
            table.finish()
        if not told:
            soon(self)

    def leaves_of(self, number: int) -> Ints:
        """Return the numbers of the leaves of tree *number* in key order."""
        if number not in self._leaves:
            self._leaves[number] = self.forest.leaves_of(number)
        return self._leaves[number]

    def columns(self, relation: Relation) -> Columns:
        """Return the columns of a relation as ``Gathered.different`` has them; it may still be asked for."""
        table = self._tables[relation.name]
        table.finish()
        columns: Columns = table.rows._asdict()
        return columns

    def take(self, relation: Relation) -> LeafTable[Any]:
        """Return the table of a relation, which is the caller's from now on."""
        table = self._tables.pop(relation.name)
        table.finish()
        return table

    def gathered(self, relation: Relation) -> Gathered:
        """Return the rows of all trees of a relation, to be asked for once."""
        table = self.take(relation)
        parts, ids = [np.empty(0, np.int64)], [np.empty(0, np.uint64)]
        for number, tree in self.trees_of(relation):
            parts.append(table.rows_of(self.leaves_of(number)))
            ids.append(np.full(len(parts[-1]), tree, np.uint64))
        return Gathered(relation, table.rows._asdict(), np.concatenate(parts), np.concatenate(ids))

    def trees_of(self, relation: Relation) -> list[tuple[int, int]]:
        """Return numbers and ids of the trees that hold a relation; of several with one id the last, as the kernel."""
        numbers = {tree: number for number, (tree, _) in enumerate(self.trees)}
        held = ((TreeId.FS_TREE if holds_files(tree) else tree) in relation.trees for tree in numbers)
        return sorted((number, tree) for (tree, number), is_held in zip(numbers.items(), held, strict=True) if is_held)

    def tree_blocks(self) -> dict[str, NDArray[Any]]:
        """Return the columns of ``tree_blocks``, by address."""
        heads = [self.forest.heads(level) for level in range(MAX_LEVEL)]
        fill = [Header.SIZE + head["nritems"].astype(np.int64) * KeyPtr.SIZE for head in heads]
        payloads = np.concatenate(self._payload_bytes)
        fill[0] = Header.SIZE + heads[0]["nritems"].astype(np.int64) * Item.SIZE + payloads
        head, filled = np.concatenate(heads), np.concatenate(fill)
        logical, rows = np.unique(head["bytenr"], return_index=True)
        rows = rows[logical > 0]  # 0 stands for a block that could not be read
        columns = {"items": head["nritems"][rows], "logical": head["bytenr"][rows], "fill": filled[rows]}
        return columns | {name: head[name][rows] for name in ("owner", "level", "generation", "flags")}


def holds_files(tree: int) -> bool:
    """Return whether a tree has inodes: a subvolume, or the tree of the inodes by which a balance moves data."""
    return is_subvolume(tree) or tree == TreeId.DATA_RELOC_TREE


def every_tree(image: Image) -> Trees:
    """Return the roots of all trees, but of subvolumes whose deletion has begun to free blocks."""
    dropped = {each.id for each in image.subvolumes() if not each.root.refs and each.root.drop_progress.objectid}
    roots = (*superblock_roots(image), *item_roots(image))
    return [(root.id, root.at) for root in roots if root.id not in dropped]


def deleted_trees(image: Image) -> Deleted:
    """Return the trees that ``every_tree`` leaves out."""
    found = Deleted([], {})
    for root in item_roots(image):
        freed = deleted_pointers(image, root) if is_subvolume(root.id) else {}
        if freed:
            found.trees.append((root.id, root.at))
            found.freed.update(freed)
    return found


def trees_of_kind(image: Image, tree: TreeId) -> Trees:
    """Return the root of a tree, or for FS_TREE of every subvolume; none where there is none or it cannot be found."""
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


@cache
def _rows_of(names: tuple[str, ...]) -> Any:
    return type("Rows", (NamedTuple,), {"__annotations__": dict.fromkeys(names, Any)})


def _taker(relation: Relation, facts: Facts) -> Callable[[LeafBatch], tuple[LeafBatch, Any]]:
    """Return what takes the rows of a relation from leaves, its columns in order."""
    take = TAKES[relation.name]
    rows = _rows_of(tuple(column.name for column in relation.columns))

    def taken(batch: LeafBatch) -> tuple[LeafBatch, Any]:
        items, columns = _ending(*take(batch, facts), facts.report)
        return items, rows(*(_compact(column, columns[column.name], facts.numbered) for column in relation.columns))

    return taken


def _ending(items: LeafBatch, columns: Made, report: Callable[[CorruptError], None]) -> Taken:
    """Return rows without ranges that end beyond the last address; so whoever asks may add up start and length."""
    start, length = columns.get("logical", columns.get("physical")), columns.get("length")
    if not isinstance(start, np.ndarray) or not isinstance(length, np.ndarray):
        return items, columns
    beyond = start + length.astype(np.uint64) < start
    for item in np.flatnonzero(beyond).tolist():
        report(items.error(item, f"the range of {length[item]} bytes from {start[item]} on ends beyond all addresses"))
    if not beyond.any():
        return items, columns
    plain: Any = columns  # relations of ranges have no text
    return items.take(~beyond), {name: column[~beyond] for name, column in plain.items()}


def _compact(column: Column, values: NDArray[Any] | Slices | Strings, numbered: bool) -> NDArray[Any] | Strings:
    """Return a column as it is held, of which a copy will be made: it may be a part of records."""
    if isinstance(values, Slices):
        return fingerprints(values) if numbered else values.cut()
    if isinstance(values, Strings):
        return values
    return values.astype("u1" if column.words else column.type, copy=False)
