"""What many addresses are for, by one scan of all trees: the bulk path of ``Locator``.

First the addresses are known, then the leaves are read, and of these only what has to do with an address is kept.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from btrimg.errors import BlockError, CorruptError
from btrimg.filesystem import leafrows, strings
from btrimg.filesystem.columns import COMPRESSED, PREALLOC, REGULAR
from btrimg.filesystem.forest import deleted_pointers, item_roots, superblock_roots
from btrimg.filesystem.leafrows import LeafTable, Names
from btrimg.filesystem.leaves import FileTrees
from btrimg.filesystem.treepaths import every_path_of
from btrimg.named import NamedTuple
from btrimg.ondisk.constants import ExtentFlag, FileExtentType, ItemType, TreeId
from btrimg.ondisk.extents import ExtentItem, FileExtent, TreeBlockInfo
from btrimg.ondisk.inodes import InodeExtref, InodeRef
from btrimg.tables.entries import merged, split_records
from btrimg.trees.batches import ranges, records_at, structs_at
from btrimg.trees.distinct import different

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from btrimg.filesystem.image import Image
    from btrimg.filesystem.strings import Strings
    from btrimg.trees.batches import Report
    from btrimg.trees.leafbatch import LeafBatch

    Ints = NDArray[np.int64]
    Unsigned = NDArray[np.uint64]


class UnsoundError(CorruptError):
    """Report an extent tree that cannot be relied on: addresses must be told one by one."""


class Extents(NamedTuple):
    """Extents that hold some of the addresses, one per row in order of address."""

    logical: Ints
    length: Ints  #: bytes
    level: Ints  #: of a tree block; -1 for data
    generation: Unsigned  #: transid that allocated it


class Uses(NamedTuple):
    """File extents that use one of the extents, one per item."""

    inode: Unsigned
    offset: Ints  #: in the file
    length: Ints  #: bytes of the file
    kind: NDArray[np.uint8]  #: index into ``columns.KINDS``
    compression: NDArray[np.uint8]
    extent: Ints  #: address of the extent while leaves are read, then its row in ``Extents``
    logical: Ints  #: first byte that is reached
    reach: Ints  #: bytes that are reached from there on


class Sums(NamedTuple):
    """Checksums of the sectors of the addresses, one per row; no leaf holds them twice."""

    sector: Ints  #: number of the sector among all that were looked for
    sum: NDArray[np.void]


class Scan:
    """What the leaves of all trees say of some logical addresses, ascending.

    Raises UnsoundError when the extent tree is damaged. What else cannot be read is reported to *image*. *text* is what
    is made of names before paths are.
    """

    def __init__(self, image: Image, points: Ints, text: Callable[[Strings], Strings]) -> None:
        self._image, self._points, self._text = image, points, text
        self._bad_trees: set[int | None] = set()
        size = image.volume.sectorsize
        self.sectors = different(points // size * size)
        extents, uses = LeafTable(self._extents), LeafTable(self._file_extents)
        names, sums = LeafTable(lambda batch: _names(batch, image)), LeafTable(self._sums)
        self._names = names
        self.trees = _all_trees(image, self._hear)
        self.roots = np.array([root.owner or 0 for root in self.trees.forest.roots], np.uint64)  #: ids of the trees
        self.trees.fill(extents, uses, names, sums)
        if TreeId.EXTENT_TREE in self._bad_trees:
            raise UnsoundError("the extent tree is damaged")
        self._shown = names.rows._replace(name=text(names.rows.name))
        self.extents = Extents._make(column[np.argsort(extents.rows.logical, kind="stable")] for column in extents.rows)
        self.uses, self.leaf_of_use = self._known(uses)
        #: by number of the root; trees of one id have one rank
        self.tree_rank = np.unique(self.roots, return_inverse=True)[1]
        self.inode_rank = _rank(self.uses.inode)  #: of uses
        #: of uses by inode and offset; equal ones, of different leaves, have one rank
        self.use_rank = _rank(self.uses.inode, self.uses.offset, self.uses.extent)
        self.sums = np.zeros(len(self.sectors), sums.rows.sum.dtype)
        self.has_sum = np.zeros(len(self.sectors), np.bool_)
        self.sums[sums.rows.sector], self.has_sum[sums.rows.sector] = sums.rows.sum, True

    @property
    def sums_are_known(self) -> bool:
        """Return whether the checksum tree could be read."""
        return TreeId.CSUM_TREE not in self._bad_trees

    def _hear(self, error: CorruptError) -> None:
        self._bad_trees.add(error.tree if isinstance(error, BlockError) else None)
        self._image.report(error)

    def _held(self, start: Ints, length: Ints) -> NDArray[np.bool_]:
        """Return which ranges hold one of the points."""
        first, last = np.searchsorted(self._points, start), np.searchsorted(self._points, start + length)
        held: NDArray[np.bool_] = last > first
        return held

    def _extents(self, batch: LeafBatch) -> tuple[LeafBatch, Extents]:
        items = batch.of_type(ItemType.EXTENT_ITEM, ItemType.METADATA_ITEM)
        if (items.size < ExtentItem.SIZE).any():
            raise UnsoundError("an extent item is too short")
        small = items.key_type == ItemType.METADATA_ITEM
        length = np.where(small, self._image.volume.nodesize, items.offset.view(np.int64))
        held = np.flatnonzero(self._held(items.objectid.view(np.int64), length))
        items, small, length = items.take(held), small[held], length[held]
        record = items.records(ExtentItem)
        large = ~small & (record["flags"] & int(ExtentFlag.TREE_BLOCK) != 0)
        level = np.where(small, items.offset.view(np.int64), -1)
        if (items.size[large] < ExtentItem.SIZE + TreeBlockInfo.SIZE).any():
            raise UnsoundError("an extent item is too short")
        level[large] = records_at(items.data, TreeBlockInfo, items.position[large] + ExtentItem.SIZE)["level"]
        return items, Extents(items.objectid.view(np.int64), length, level, record["generation"])

    def _file_extents(self, batch: LeafBatch) -> tuple[LeafBatch, Uses]:
        items = batch.of_type(ItemType.EXTENT_DATA)
        items = items.take(items.size >= FileExtent.SIZE)  # others are inline, or make no sense
        record = items.records(FileExtent)
        held = self._held(record["disk_bytenr"].view(np.int64), record["disk_num_bytes"].view(np.int64))
        items, record, inline = leafrows.sound_file_extents(items.take(held), self._image.report)
        items, record = items.take(~inline), record[~inline]
        address = record["disk_bytenr"].view(np.int64)
        compressed = record["compression"] != 0
        prealloc = record["type"] == FileExtentType.PREALLOC
        kind = np.where(prealloc, PREALLOC, np.where(compressed, COMPRESSED, REGULAR)).astype(np.uint8)
        length = record["num_bytes"].view(np.int64)
        skipped = np.where(kind == COMPRESSED, 0, record["offset"].view(np.int64))
        return items, Uses(
            items.objectid,
            items.offset.view(np.int64),
            length,
            kind,
            record["compression"],
            address,
            address + skipped,
            length,
        )

    def _known(self, table: LeafTable[Uses]) -> tuple[Uses, Ints]:
        """Return the uses of the data extents that the extent tree knows, with their rows, and the leaf of each."""
        rows, data = table.rows, np.flatnonzero(self.extents.level < 0)
        at = np.searchsorted(self.extents.logical[data], rows.extent)
        at = np.minimum(at, max(len(data) - 1, 0))
        known = np.flatnonzero(self.extents.logical[data][at] == rows.extent) if len(data) else data
        found = Uses._make(column[known] for column in rows)
        extent = data[at[known]]
        reach = np.where(found.kind == COMPRESSED, self.extents.length[extent], found.length)
        return found._replace(extent=extent, reach=reach), table.leaves[known]

    def _sums(self, batch: LeafBatch) -> tuple[LeafBatch, Sums]:
        size, sectorsize = self._image.volume.csum.size, self._image.volume.sectorsize
        items = batch.of_type(ItemType.EXTENT_CSUM)
        items = items.take(items.size >= size)
        start = items.offset.view(np.int64)
        first = np.searchsorted(self.sectors, start)
        count = np.searchsorted(self.sectors, start + items.size // size * sectorsize) - first
        sector, item = ranges(first, count), np.repeat(np.arange(len(start)), count)
        position = items.position[item] + (self.sectors[sector] - start[item]) // sectorsize * size
        return items.take(item), Sums(sector, structs_at(items.data, size, position))

    def paths_of(self, root: Ints, inode: Unsigned) -> tuple[Ints, Strings]:
        """Return how many paths each inode of the tree of a *root*, by number, has, and all of them.

        The pairs come in order. Inodes of trees that are no whole subvolumes have none.
        """
        counts, found = np.zeros(len(inode), np.int64), [strings.EMPTY]
        for number in different(root[root < len(self.trees.subvolumes)]).tolist():
            prefix = self.trees.path_of(number)
            if prefix is not None:
                first, last = np.searchsorted(root, (number, number + 1)).tolist()
                rows = self.trees.row_numbers(self._names, number)
                top = self.trees.subvolumes[number].root.root_dirid
                shown = self._text(strings.of_list([prefix])).decode(0)
                counts[first:last], paths = every_path_of(inode[first:last], self._shown, rows, top, shown)
                found.append(paths)
        return counts, strings.concatenate(found)


def _all_trees(image: Image, bad: Report) -> FileTrees:
    """Return all trees but logs, subvolumes first; those in deletion as far as they are there."""
    roots = [root for root in (*superblock_roots(image), *item_roots(image)) if root.id != TreeId.TREE_LOG]
    skipped: dict[int, int] = {}
    for root in roots:
        skipped |= deleted_pointers(image, root)
    whole = {kept.tree.root for kept in image.subvolumes() if kept.root.refs or not kept.root.drop_progress.objectid}
    further = dict.fromkeys(root.at for root in roots if root.at not in whole)
    return FileTrees(image, *further, bad=bad, skipped=skipped)


def _names(batch: LeafBatch, image: Image) -> tuple[LeafBatch, Names]:
    """Return every name of every inode, one per row."""
    parts = []
    for key_type, record in ((ItemType.INODE_REF, InodeRef), (ItemType.INODE_EXTREF, InodeExtref)):
        items, fixed = split_records(batch.of_type(key_type), record, image.report)
        parent = items.offset if record is InodeRef else fixed["parent_objectid"]
        parts.append((items, {"parent": parent, "head": np.full(len(parent), record.SIZE)}))
    items, columns = merged(parts)
    order = np.lexsort((items.objectid, items.leaf))  # stable: of one inode, INODE_REF first, as keys have it
    items, head = items.take(order), columns["head"][order]
    name = strings.cut(items.data, items.position + head, items.size - head)
    return items, Names(items.objectid, columns["parent"][order], name)


def _rank(*columns: NDArray[Any]) -> Ints:
    """Return the rank of every row among the different ones, by the first column, then the second and so on."""
    order = np.lexsort(columns[::-1])
    new = np.zeros(len(order), np.bool_)
    for column in columns:
        new[1:] |= column[order[1:]] != column[order[:-1]]
    rank = np.empty(len(order), np.int64)
    rank[order] = np.cumsum(new)
    return rank
