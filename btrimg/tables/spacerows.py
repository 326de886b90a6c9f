"""Rows from the trees that account for space: extents, backrefs, checksums, block groups, free space."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from btrimg.filesystem import strings
from btrimg.ondisk.chunks import BlockGroupItem
from btrimg.ondisk.constants import ExtentFlag, ItemType, TreeId
from btrimg.ondisk.extents import (
    ExtentDataRef,
    ExtentItem,
    InlineDataRef,
    InlineRef,
    InlineSharedDataRef,
    SharedDataRef,
    TreeBlockInfo,
)
from btrimg.tables.devicerows import block_group
from btrimg.tables.entries import merged, sound, split
from btrimg.tables.schema import BACKREF_KINDS, EXTENT_KINDS, FREE_SPACE_SOURCES
from btrimg.trees.batches import records_at

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from btrimg.tables.entries import Rows
    from btrimg.tables.leafscan import Columns, Facts, Taken
    from btrimg.trees.leafbatch import LeafBatch

    Ints = NDArray[np.int64]

_KIND_CODES = np.zeros(256, np.uint8)
_KIND_CODES[list(BACKREF_KINDS)] = range(len(BACKREF_KINDS))
_INLINE_SIZES = np.zeros(256, np.int64)  # 0 for what is no type of reference
_INLINE_SIZES[[ItemType.TREE_BLOCK_REF, ItemType.SHARED_BLOCK_REF, ItemType.EXTENT_OWNER_REF]] = InlineRef.SIZE
_INLINE_SIZES[ItemType.EXTENT_DATA_REF] = InlineDataRef.SIZE
_INLINE_SIZES[ItemType.SHARED_DATA_REF] = InlineSharedDataRef.SIZE
_KEYED_SIZES = np.zeros(256, np.int64)
_KEYED_SIZES[ItemType.EXTENT_DATA_REF], _KEYED_SIZES[ItemType.SHARED_DATA_REF] = ExtentDataRef.SIZE, SharedDataRef.SIZE
_IS_OF_TREE = np.zeros(256, np.bool_)
_IS_OF_TREE[[ItemType.TREE_BLOCK_REF, ItemType.EXTENT_OWNER_REF]] = True
_KEYED = (ItemType.TREE_BLOCK_REF, ItemType.SHARED_BLOCK_REF, ItemType.EXTENT_DATA_REF, ItemType.SHARED_DATA_REF)


def extents(batch: LeafBatch, facts: Facts) -> Taken:
    """Return the rows of ``extents``."""
    items, record, info = _extent_items(batch, facts)
    skinny = items.key_type == ItemType.METADATA_ITEM
    level = np.where(skinny, items.offset, 0).astype(np.uint8)
    level[info] = items.data[items.position[info] + ExtentItem.SIZE + TreeBlockInfo.SIZE - 1]
    tree_block = skinny | (record["flags"] & int(ExtentFlag.TREE_BLOCK) != 0)
    return items, {
        "logical": items.objectid,
        "length": np.where(skinny, facts.nodesize, items.offset),
        "kind": np.where(tree_block, EXTENT_KINDS.index("tree block"), EXTENT_KINDS.index("data")),
        "level": level,
        **{name: record[name] for name in ("refs", "generation", "flags")},
    }


def _extent_items(batch: LeafBatch, facts: Facts) -> tuple[LeafBatch, NDArray[np.void], NDArray[np.bool_]]:
    """Return the items of extents, the fixed part of each, and which are followed by a TreeBlockInfo."""
    items = sound(batch.of_type(ItemType.EXTENT_ITEM, ItemType.METADATA_ITEM), ExtentItem.SIZE, facts.report)
    record = items.records(ExtentItem)
    info = (items.key_type == ItemType.EXTENT_ITEM) & (record["flags"] & int(ExtentFlag.TREE_BLOCK) != 0)
    return items, record, info & (items.size >= ExtentItem.SIZE + TreeBlockInfo.SIZE)


def inline_sizes(data: NDArray[np.uint8], position: Ints, _left: Ints) -> Ints:
    """Return the bytes of the inline references at *position*, 0 for what is none."""
    return _INLINE_SIZES[data[position]]


def backrefs(batch: LeafBatch, facts: Facts) -> Taken:
    """Return the rows of ``backrefs``, inline ones first in each leaf."""
    return merged([_inline(batch, facts), _keyed(batch, facts)])


def _inline(batch: LeafBatch, facts: Facts) -> Rows:
    items, _, info = _extent_items(batch, facts)
    head = np.where(info, ExtentItem.SIZE + TreeBlockInfo.SIZE, ExtentItem.SIZE)
    rest = items._replace(position=items.position + head, size=items.size - head)
    refs = split(rest, inline_sizes, facts.report)
    kind = refs.data[refs.position]
    columns = _no_backrefs(refs, kind, inline=True)
    simple = np.flatnonzero(_INLINE_SIZES[kind] == InlineRef.SIZE)
    where = records_at(refs.data, InlineRef, refs.position[simple])["offset"]
    of_tree = _IS_OF_TREE[kind[simple]]
    columns["root"][simple] = np.where(of_tree, where, 0)
    columns["parent"][simple] = np.where(of_tree, 0, where)
    _fill_data(columns, kind == ItemType.EXTENT_DATA_REF, refs, InlineDataRef)
    shared = np.flatnonzero(kind == ItemType.SHARED_DATA_REF)
    record = records_at(refs.data, InlineSharedDataRef, refs.position[shared])
    columns["parent"][shared], columns["count"][shared] = record["offset"], record["count"]
    return refs, columns


def _keyed(batch: LeafBatch, facts: Facts) -> Rows:
    items = batch.of_type(*_KEYED)
    items = sound(items, _KEYED_SIZES[items.key_type], facts.report)
    kind = items.key_type
    columns = _no_backrefs(items, kind, inline=False)
    columns["root"] = np.where(kind == ItemType.TREE_BLOCK_REF, items.offset, 0)
    columns["parent"] = np.where(
        (kind == ItemType.SHARED_BLOCK_REF) | (kind == ItemType.SHARED_DATA_REF), items.offset, 0
    )
    _fill_data(columns, kind == ItemType.EXTENT_DATA_REF, items, ExtentDataRef)
    shared = np.flatnonzero(kind == ItemType.SHARED_DATA_REF)
    columns["count"][shared] = records_at(items.data, SharedDataRef, items.position[shared])["count"]
    return items, columns


def _no_backrefs(items: LeafBatch, kind: NDArray[np.uint8], *, inline: bool) -> dict[str, NDArray[Any]]:
    """Return the columns with what every type of reference has, to be filled in."""
    zeros = {name: np.zeros(len(kind), np.uint64) for name in ("root", "parent", "inode")}
    return {
        "extent": items.objectid,
        "kind": _KIND_CODES[kind],
        "inline": np.full(len(kind), inline),
        **zeros,
        "offset": np.zeros(len(kind), np.int64),
        "count": np.ones(len(kind), np.uint32),
    }


def _fill_data(columns: dict[str, NDArray[Any]], where: NDArray[np.bool_], items: LeafBatch, record: Any) -> None:
    rows = np.flatnonzero(where)
    found = records_at(items.data, record, items.position[rows])
    columns["root"][rows], columns["inode"][rows] = found["root"], found["objectid"]
    columns["offset"][rows], columns["count"][rows] = found["offset"].view(np.int64), found["count"]


def csums(batch: LeafBatch, facts: Facts) -> Taken:
    """Return the rows of ``csums``."""
    items = batch.of_type(ItemType.EXTENT_CSUM)
    items = items.take(items.objectid == TreeId.EXTENT_CSUM)
    return items, {"logical": items.offset, "length": items.size // facts.csum_size * facts.sectorsize}


def block_groups(batch: LeafBatch, facts: Facts) -> Taken:
    """Return the rows of ``block_groups``."""
    items = sound(batch.of_type(ItemType.BLOCK_GROUP_ITEM), BlockGroupItem.SIZE, facts.report)
    record = items.records(BlockGroupItem)
    return items, {
        "logical": items.objectid,
        "length": items.offset,
        "used": record["used"],
        **block_group(record["flags"]),
        "chunk_objectid": record["chunk_objectid"],
    }


def free_space(batch: LeafBatch, facts: Facts) -> Taken:
    """Return the rows of ``free_space``; a run of bits ends with its item."""
    items = batch.of_type(ItemType.FREE_SPACE_EXTENT, ItemType.FREE_SPACE_BITMAP)
    whole = np.flatnonzero(items.key_type == ItemType.FREE_SPACE_EXTENT)
    bitmaps = np.flatnonzero(items.key_type == ItemType.FREE_SPACE_BITMAP)
    number, start, length = _runs(items.take(bitmaps))
    logical = items.objectid[bitmaps][number] + (start * facts.sectorsize).astype(np.uint64)
    item = np.concatenate([whole, bitmaps[number]])
    order = np.argsort(item, kind="stable")
    columns: Columns = {
        "logical": np.concatenate([items.objectid[whole], logical])[order],
        "length": np.concatenate([items.offset[whole], (length * facts.sectorsize).astype(np.uint64)])[order],
        "source": np.repeat(
            [FREE_SPACE_SOURCES.index("extent"), FREE_SPACE_SOURCES.index("bitmap")], [len(whole), len(number)]
        )[order],
    }
    return items.take(item[order]), columns


def _runs(bitmaps: LeafBatch) -> tuple[Ints, Ints, Ints]:
    """Return the runs of set bits of every bitmap: its number among *bitmaps*, first bit and length of the run."""
    joined = strings.cut(bitmaps.data, bitmaps.position, bitmaps.size)
    bits = np.unpackbits(joined.data, bitorder="little")
    edge = np.zeros(len(bits) + 1, np.bool_)  # whether a bit is the first of its bitmap; and the end
    edge[joined.offsets * 8] = True
    changed = np.append(True, bits[1:] != bits[:-1])[: len(bits)] | edge[:-1]
    start = np.flatnonzero(changed)
    end = np.append(start[1:], len(bits))[: len(start)]
    kept = bits[start] == 1
    start, end = start[kept], end[kept]
    number = np.searchsorted(joined.offsets * 8, start, "right") - 1
    return number, start - joined.offsets[number] * 8, end - start
