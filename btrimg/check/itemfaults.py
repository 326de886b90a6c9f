"""Items that cannot be what their keys say, found in all leaves while they are scanned."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from btrimg.check.laws import STANDS_IN, law_table, row_of_tree
from btrimg.filesystem.leafrows import file_extent_items
from btrimg.named import NamedTuple
from btrimg.ondisk.blocks import Header
from btrimg.ondisk.constants import FILE_TYPE_ENCRYPTED, ExtentFlag, FileExtentType, FileType, ItemType, TreeId
from btrimg.ondisk.extents import (
    ExtentDataRef,
    ExtentItem,
    FileExtent,
    FileExtentInline,
    InlineDataRef,
    InlineRef,
    TreeBlockInfo,
)
from btrimg.ondisk.roots import RootRef
from btrimg.tables.entries import pieces
from btrimg.tables.filerows import entries_of
from btrimg.tables.hashes import crcs
from btrimg.tables.spacerows import inline_sizes
from btrimg.trees.batches import records_at
from btrimg.trees.distinct import among

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from btrimg.trees.leafbatch import LeafBatch
    from btrimg.volume.volume import Volume

    Ints = NDArray[np.int64]
    Truths = NDArray[np.bool_]
    Found = tuple[str, NDArray[Any], NDArray[Any], NDArray[Any]]  # fault, items, what is there, what should be

#: Words for what may be wrong with an item; "malformed" is for what making rows of it met.
ITEM_FAULTS = (
    *("malformed", "layout", "tree", "size", "key", "alignment"),
    *("reference-order", "xattr-type", "entry-data", "location", "hole"),
)
_LAST_OF_INODE = ItemType.EXTENT_DATA  # types of what belongs to an inode do not go beyond
# Directories and caches whose number is none of an inode; the last has a name in the first.
_OWN_NUMBERS = np.array([TreeId.ROOT_TREE_DIR, TreeId.FREE_INO, TreeId.FS_TREE], np.uint64)


class ItemFaults(NamedTuple):
    """Faults, one a row."""

    leaf: NDArray[np.uint64]  #: logical address
    tree: NDArray[np.uint64]  #: owner of the leaf
    objectid: NDArray[np.uint64]
    type: NDArray[np.uint8]
    offset: NDArray[np.uint64]  #: of the key
    fault: NDArray[np.uint8]  #: index into ITEM_FAULTS
    found: NDArray[np.uint64]
    expected: NDArray[np.uint64]  #: or the nearest that would do


class ItemJudge:
    """Judges leaves of a volume; ``faults`` is what a LeafTable takes."""

    def __init__(self, volume: Volume) -> None:
        self._nodesize, self._sectorsize = volume.nodesize, volume.sectorsize
        self._laws = law_table(volume.sectorsize, volume.csum.size)

    def faults(self, batch: LeafBatch) -> tuple[LeafBatch, ItemFaults]:
        """Return an item for each fault, in order of leaf, and the faults."""
        found = [each for each in self._all(batch) if len(each[1])]
        item = np.concatenate([np.empty(0, np.int64), *(items for _, items, _, _ in found)])
        order = np.argsort(item, kind="stable")
        none = np.empty(0, np.uint64)
        words = [np.full(len(items), ITEM_FAULTS.index(word), np.uint8) for word, items, _, _ in found]
        there = np.concatenate([none, *(values.astype(np.uint64) for _, _, values, _ in found)])
        expected = np.concatenate([none, *(values.astype(np.uint64) for *_, values in found)])
        items = batch.take(item[order])
        head = batch.heads[items.leaf - batch.first_leaf]
        return items, ItemFaults(
            leaf=head["bytenr"].copy(),
            tree=head["owner"].copy(),
            objectid=items.objectid,
            type=items.key_type,
            offset=items.offset,
            fault=np.concatenate([none.astype(np.uint8), *words])[order],
            found=there[order],
            expected=expected[order],
        )

    def _all(self, batch: LeafBatch) -> Iterator[Found]:
        yield self._layout(batch)
        owners, owner = np.unique(batch.heads["owner"], return_inverse=True)
        rows = np.array([row_of_tree(each) for each in owners.tolist()], np.intp)[owner]
        row = rows[batch.leaf - batch.first_leaf] if (rows != rows[:1]).any() else rows[:1]
        suspects = self._laws.suspects(row, batch)
        if len(suspects):
            for word, items, found, expected in self._closer(batch.take(suspects), rows):
                yield word, suspects[items], found, expected
        for types, judge in (
            (_ROOT_REFS, self._root_ref_sizes),
            (_ENTRIES, self._entries),
            ({ItemType.EXTENT_DATA_REF}, self._reference_hashes),
            (_EXTENTS, self._reference_order),
            ({ItemType.EXTENT_DATA}, self._holes),
        ):
            if not batch.types.isdisjoint(types):
                yield from judge(batch)

    def _layout(self, batch: LeafBatch) -> Found:
        """Find payloads that do not end where the one before begins, the first at the end of the leaf."""
        end = batch.position + batch.size
        joined = end[1:] == batch.position[:-1]
        some = np.append(0, np.flatnonzero(~joined) + 1)[: len(end)]  # the first of each leaf, and what is wrong
        leaf = batch.leaf[some] - batch.first_leaf
        begins = (leaf + 1) * self._nodesize
        follows = (some > 0) & (batch.leaf[some - 1] == batch.leaf[some])
        expected = np.where(follows, batch.position[some - 1], begins)
        whole = np.bincount(batch.leaf - batch.first_leaf, minlength=batch.leaves) == batch.heads["nritems"]
        wrong = (end[some] != expected) & whole[leaf]  # an item outside its leaf has been told, and is missing here
        start = leaf[wrong] * self._nodesize + Header.SIZE
        return "layout", some[wrong], end[some][wrong] - start, expected[wrong] - start

    def _closer(self, items: LeafBatch, rows: NDArray[np.intp]) -> Iterator[Found]:
        """Find what is wrong with *items*; *rows* are those of the trees of the leaves."""
        kind, size = items.key_type.astype(np.intp), items.size.view(np.uint64)
        wrong = np.flatnonzero(~STANDS_IN[rows[items.leaf - items.first_leaf], kind])
        yield "tree", wrong, items.key_type[wrong], np.zeros(len(wrong))
        wrong = self._laws.size.broken(kind, size)
        yield "size", wrong, size[wrong], self._laws.size.nearest(kind[wrong], size[wrong])
        for values, law in ((items.objectid, self._laws.objectid), (items.offset, self._laws.offset)):
            wrong = law.broken(kind, values)
            wrong = wrong[~_special(items.take(wrong))]
            inside = law.within(kind[wrong], values[wrong])
            for word, some in (("key", wrong[~inside]), ("alignment", wrong[inside])):
                yield word, some, values[some], law.nearest(kind[some], values[some])
        yield self._file_extent_sizes(items)
        yield self._bitmap_sizes(items)

    def _file_extent_sizes(self, items: LeafBatch) -> Found:
        """Find file extents that are not inline and have more or less than they need."""
        number = np.flatnonzero((items.key_type == ItemType.EXTENT_DATA) & (items.size >= FileExtentInline.SIZE))
        inline = items.data[items.position[number] + FileExtentInline.SIZE - 1] == FileExtentType.INLINE
        wrong = number[~inline & (items.size[number] != FileExtent.SIZE)]
        return "size", wrong, items.size[wrong], np.full(len(wrong), FileExtent.SIZE)

    def _bitmap_sizes(self, items: LeafBatch) -> Found:
        """Find bitmaps that do not have one bit for each sector (fs/btrfs/free-space-tree.c)."""
        number = np.flatnonzero((items.key_type == ItemType.FREE_SPACE_BITMAP) & (items.size > 0))
        sectors = items.offset[number] // np.uint64(self._sectorsize)
        expected = (sectors + np.uint64(7)) // np.uint64(8)
        wrong = items.size[number] != expected
        return "size", number[wrong], items.size[number][wrong], expected[wrong]

    def _root_ref_sizes(self, batch: LeafBatch) -> Iterator[Found]:
        """Find names of subvolumes that are longer or shorter than their item says."""
        number = np.flatnonzero((batch.key_type == ItemType.ROOT_REF) | (batch.key_type == ItemType.ROOT_BACKREF))
        number = number[batch.size[number] >= RootRef.SIZE]
        expected = RootRef.SIZE + records_at(batch.data, RootRef, batch.position[number])["name_len"].astype(np.int64)
        wrong = batch.size[number] != expected
        yield "size", number[wrong], batch.size[number][wrong], expected[wrong]

    def _entries(self, batch: LeafBatch) -> Iterator[Found]:
        """Find xattrs that say of what type of file they are, names with data, and both with locations that cannot be.

        That of an xattr is zero, and that of a name the key of an inode, which ends in zero, or of a subvolume.
        """
        number, _, entry, _ = batch.once(entries_of)
        is_xattr = batch.key_type[number] == ItemType.XATTR_ITEM
        kind = entry["type"] & ~np.uint8(FILE_TYPE_ENCRYPTED)
        wrong = np.flatnonzero(is_xattr & (kind != FileType.XATTR))
        yield "xattr-type", number[wrong], kind[wrong], np.full(len(wrong), FileType.XATTR)
        wrong = np.flatnonzero(~is_xattr & (entry["data_len"] > 0))
        yield "entry-data", number[wrong], entry["data_len"][wrong], np.zeros(len(wrong))
        location = entry["location"]
        excess = np.where(location["type"] != ItemType.ROOT_ITEM, location["offset"], np.uint64(0))
        whole = np.maximum(np.maximum(location["objectid"], location["type"]), location["offset"])
        excess = np.where(is_xattr, whole, excess)
        wrong = np.flatnonzero(excess)
        yield "location", number[wrong], excess[wrong], np.zeros(len(wrong))

    def _reference_hashes(self, batch: LeafBatch) -> Iterator[Found]:
        """Find references to files' data whose key is not the hash of what they say, or a little above it.

        Of two with the same hash, one has the next number (fs/btrfs/extent-tree.c ``insert_extent_data_ref``).
        """
        number = np.flatnonzero((batch.key_type == ItemType.EXTENT_DATA_REF) & (batch.size == ExtentDataRef.SIZE))
        expected = _hashes(records_at(batch.data, ExtentDataRef, batch.position[number]))
        wrong = batch.offset[number] - expected > _MOST_OF_ONE_HASH
        yield "key", number[wrong], batch.offset[number][wrong], expected[wrong]

    def _reference_order(self, batch: LeafBatch) -> Iterator[Found]:
        """Find extents whose inline references are not in order: of type, and within a type the greatest first."""
        skinny = batch.key_type == ItemType.METADATA_ITEM
        number = np.flatnonzero((skinny | (batch.key_type == ItemType.EXTENT_ITEM)) & (batch.size >= _TWO_REFS))
        blocks = records_at(batch.data, ExtentItem, batch.position[number])["flags"] & int(ExtentFlag.TREE_BLOCK) != 0
        head = ExtentItem.SIZE + TreeBlockInfo.SIZE * (blocks & ~skinny[number])
        position, size = batch.position[number] + head, batch.size[number] - head
        several = np.flatnonzero(size > inline_sizes(batch.data, position, size))
        number = number[several]
        item, position, *_ = pieces(batch.data, position[several], size[several], inline_sizes)
        kind, order = batch.data[position], _order_of(batch.data, position)
        same = item[1:] == item[:-1]
        wrong = same & ((kind[1:] < kind[:-1]) | ((kind[1:] == kind[:-1]) & (order[1:] > order[:-1])))
        at = np.flatnonzero(wrong)
        at = at[np.unique(item[at], return_index=True)[1]]  # one row for each item
        yield "reference-order", number[item[at]], kind[at + 1], kind[at]

    def _holes(self, batch: LeafBatch) -> Iterator[Found]:
        """Find holes with numbers that cannot be; the tables have none of a hole, since there is no extent.

        One that was cut, like any file extent, skips what is in front of it and keeps the length that it was made with.
        """
        found = batch.once(file_extent_items)
        hole = np.flatnonzero(
            (found.record["disk_bytenr"] == 0) & (found.items.size == FileExtent.SIZE) & ~found.inline
        )
        number, record, part = found.number[hole], found.record[hole], np.uint64(self._sectorsize - 1)
        length, ram, skipped = record["num_bytes"], record["ram_bytes"], record["offset"]
        room = np.where(ram >= length, ram - length, np.uint64(0))
        for value, most in (
            (record["disk_num_bytes"], np.zeros(len(number), np.uint64)),
            (skipped, np.minimum(skipped, room) & ~part),
            (ram, np.maximum(ram, length) & ~part),
        ):
            wrong = np.flatnonzero(value != most)
            yield "hole", number[wrong], value[wrong], most[wrong]


_ROOT_REFS, _EXTENTS = {ItemType.ROOT_REF, ItemType.ROOT_BACKREF}, {ItemType.EXTENT_ITEM, ItemType.METADATA_ITEM}
_ENTRIES = {ItemType.DIR_ITEM, ItemType.DIR_INDEX, ItemType.XATTR_ITEM}
_DATA_REF_SEED = 0xFFFF_FFFF  # of ``extent_data_ref_hash``
_MOST_OF_ONE_HASH = np.uint64(64)  # keyed references whose hashes are equal
_TWO_REFS = ExtentItem.SIZE + 2 * InlineRef.SIZE


def _special(items: LeafBatch) -> Truths:
    """Return which items are of a directory or a cache whose number is none of an inode."""
    own_number: Truths = among(items.objectid, _OWN_NUMBERS) & (items.key_type <= _LAST_OF_INODE)
    return own_number


def _order_of(data: NDArray[np.uint8], position: Ints) -> NDArray[np.uint64]:
    """Return the number by which an inline reference is sorted: its offset, for files' data a hash of all it says."""
    order = records_at(data, InlineRef, position)["offset"].copy()
    of_file = np.flatnonzero(data[position] == ItemType.EXTENT_DATA_REF)
    order[of_file] = _hashes(records_at(data, InlineDataRef, position[of_file]))
    return order


def _hashes(record: NDArray[np.void]) -> NDArray[np.uint64]:
    """Return ``extent_data_ref_hash`` of every record."""
    high = crcs(_bytes_of(record, "root"), _DATA_REF_SEED).astype(np.uint64)
    return (high << np.uint64(31)) ^ crcs(_bytes_of(record, "objectid", "offset"), _DATA_REF_SEED)


def _bytes_of(record: NDArray[np.void], *names: str) -> NDArray[np.uint8]:
    """Return some numbers of each record as a row of bytes."""
    return (
        np.stack([record[name].astype("<u8") for name in names], axis=1)
        .view(np.uint8)
        .reshape(len(record), 8 * len(names))
    )
