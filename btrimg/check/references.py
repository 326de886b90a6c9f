"""References to extents that the trees make, as the extent tree should record them.

Every tree block is judged once, however many trees share it, as the kernel counts it (fs/btrfs/extent-tree.c
``btrfs_inc_ref`` and ``btrfs_alloc_tree_block``). What a block refers to, its children or the extents of its files, is
recorded under the block's address where the block's own extent item has the flag FULL_BACKREF, else under the block's
owner. The root block of a tree is recorded under the tree, that of a reloc tree under its own address. Log trees are
recorded nowhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from btrimg.filesystem.leafrows import file_extent_items
from btrimg.filesystem.treepaths import find
from btrimg.named import NamedTuple
from btrimg.ondisk.constants import MAX_LEVEL, ExtentFlag, HeaderFlag, TreeId
from btrimg.tables.schema import BACKREF_KINDS
from btrimg.trees.distinct import among

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from btrimg.filesystem.leafrows import LeafTable
    from btrimg.trees.block import Pointer
    from btrimg.trees.leafbatch import LeafBatch
    from btrimg.trees.scan import Forest

    Ints = NDArray[np.int64]
    Unsigned = NDArray[np.uint64]
    Truths = NDArray[np.bool_]
    Columns = dict[str, NDArray[Any]]

KINDS = tuple(BACKREF_KINDS.values())
TREE_BLOCK, SHARED_BLOCK, EXTENT_DATA, SHARED_DATA, OWNER = range(len(KINDS))


class DataUses(NamedTuple):
    """File extents that use an extent, one per row."""

    extent: Unsigned  #: logical
    length: Unsigned  #: of the whole extent
    inode: Unsigned
    offset: Unsigned  #: in the file, minus that in the extent, modulo 2**64


def data_uses(batch: LeafBatch) -> tuple[LeafBatch, DataUses]:
    """Return the EXTENT_DATA items of *batch* that use an extent, and their rows, also of those that make no sense."""
    found = batch.once(file_extent_items)
    used = np.flatnonzero(found.record["disk_bytenr"])  # of what is inline there are zeros
    items, record = found.items.take(used), found.record
    return items, DataUses(
        record["disk_bytenr"][used],
        record["disk_num_bytes"][used],
        items.objectid,
        items.offset - record["offset"][used],
    )


class References(NamedTuple):
    """References that the trees make, one per row."""

    extent: Unsigned  #: logical
    kind: NDArray[np.uint8]  #: index into BACKREF_KINDS
    root: Unsigned
    parent: Unsigned  #: logical
    inode: Unsigned
    offset: Unsigned
    length: Unsigned  #: of the extent, as the use has it
    level: NDArray[np.uint8]  #: of the tree block, as the use has it

    def take(self, some: NDArray[Any]) -> References:
        """Return some of the rows."""
        return References(*(column[some] for column in self))


class Referrers(NamedTuple):
    """How what the blocks of one level refer to is recorded, one row for each block by number."""

    logical: Unsigned
    owner: Unsigned
    counted: Truths  #: False for one that cannot be read, stands in a log tree or is here under another number, too
    root: Unsigned  #: 0 where it is recorded under the block's address
    parent: Unsigned  #: that address, else 0


class Made(NamedTuple):
    """What all trees refer to, and blocks that their owners do not refer to although they should."""

    references: References
    unowned: Unsigned  #: logical
    owner: Unsigned  #: id of the tree, of each of *unowned*


def references(
    forest: Forest, trees: Sequence[tuple[int, Pointer]], uses: LeafTable[DataUses], extents: Columns, nodesize: int
) -> Made:
    """Return what all *trees* of the read *forest* refer to; *extents* are columns of that relation, by address."""
    referrers = [_referrers(forest, level, extents) for level in range(MAX_LEVEL)]
    parts = [_of_roots(trees, nodesize), _of_files(referrers[0], uses.leaves, uses.rows)]
    parts += [_of_nodes(forest, level, referrers[level], nodesize) for level in range(1, MAX_LEVEL)]
    unowned, owner = _unowned(forest, trees, referrers)
    return Made(_joined(parts), unowned, owner)


def _joined(parts: list[References]) -> References:
    """Return the rows of *parts*, which are taken out: of what is joined the memory is free for the next column."""
    columns = [list(column) for column in zip(*parts, strict=True)]
    parts.clear()
    joined = []
    for column in columns:
        joined.append(np.concatenate(column))
        column.clear()
    return References(*joined)


def _unowned(
    forest: Forest, trees: Sequence[tuple[int, Pointer]], referrers: Sequence[Referrers]
) -> tuple[Unsigned, Unsigned]:
    """Return blocks that record under a tree which does not refer to them any more, and the tree's id.

    A tree that uses a block of its own has made the node above its own as well.
    """
    ids, roots = ([*each] for each in zip(*((tree, at.logical) for tree, at in trees), strict=True))
    used = [_together(np.array(roots, np.uint64), np.array(ids, np.uint64))]
    for level in range(1, MAX_LEVEL):
        nodes, blocks = forest.pointers(level)
        used.append(_together(forest.addresses(level - 1)[blocks], referrers[level].owner[nodes]))
    logical = np.concatenate([each.logical[each.counted & (each.root > 0)] for each in referrers])
    owner = np.concatenate([each.root[each.counted & (each.root > 0)] for each in referrers])
    unowned = np.flatnonzero(~among(_together(logical, owner), np.concatenate(used)))
    return logical[unowned], owner[unowned]


def _together(logical: Unsigned, tree: Unsigned) -> Unsigned:
    return logical + tree * np.uint64(0x9E3779B97F4A7C15)  # no two of one image are likely to be the same


def _of_roots(trees: Sequence[tuple[int, Pointer]], nodesize: int) -> References:
    counted = [(tree, at) for tree, at in trees if tree != TreeId.TREE_LOG]
    ids = np.array([tree for tree, _ in counted], np.uint64)
    extent = np.array([at.logical for _, at in counted], np.uint64)
    reloc = ids == TreeId.TREE_RELOC
    zeros = np.zeros(len(ids), np.uint64)
    return References(
        extent,
        np.where(reloc, SHARED_BLOCK, TREE_BLOCK).astype(np.uint8),
        np.where(reloc, zeros, ids),
        np.where(reloc, extent, zeros),
        zeros,
        zeros,
        zeros + np.uint64(nodesize),
        np.array([at.level for _, at in counted], np.uint8),
    )


def _of_nodes(forest: Forest, level: int, referrers: Referrers, nodesize: int) -> References:
    nodes, blocks = forest.pointers(level)
    kept = referrers.counted[nodes]
    nodes, blocks = nodes[kept], blocks[kept]
    zeros = np.zeros(len(nodes), np.uint64)
    root = referrers.root[nodes]
    return References(
        forest.addresses(level - 1)[blocks],
        np.where(root > 0, TREE_BLOCK, SHARED_BLOCK).astype(np.uint8),
        root,
        referrers.parent[nodes],
        zeros,
        zeros,
        zeros + np.uint64(nodesize),
        np.full(len(nodes), level - 1, np.uint8),
    )


def _of_files(referrers: Referrers, leaf: Ints, uses: DataUses) -> References:
    counted = referrers.counted[leaf]
    if not counted.all():
        leaf, uses = leaf[counted], DataUses._make([column[counted] for column in uses])
    root, parent = referrers.root[leaf], referrers.parent[leaf]
    shared = root == 0
    return References(
        uses.extent,
        np.where(shared, SHARED_DATA, EXTENT_DATA).astype(np.uint8),
        root,
        parent,
        np.where(shared, np.uint64(0), uses.inode) if shared.any() else uses.inode,
        np.where(shared, np.uint64(0), uses.offset) if shared.any() else uses.offset,
        uses.length,
        np.zeros(len(root), np.uint8),
    )


def _referrers(forest: Forest, level: int, extents: Columns) -> Referrers:
    heads = forest.heads(level)
    logical, owner = heads["bytenr"].copy(), heads["owner"].copy()
    counted = np.zeros(len(heads), np.bool_)
    _, first = np.unique(logical, return_index=True)
    counted[first] = True
    counted &= (logical != 0) & (owner != TreeId.TREE_LOG)
    item = find(extents["logical"], logical)
    full = heads["flags"] & int(HeaderFlag.RELOC) != 0
    known = np.flatnonzero(item >= 0)
    full[known] = extents["flags"][item[known]] & int(ExtentFlag.FULL_BACKREF) != 0
    zero = np.uint64(0)
    return Referrers(logical, owner, counted, np.where(full, zero, owner), np.where(full, logical, zero))
