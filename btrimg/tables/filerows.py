"""Rows from trees of files: inodes, names, xattrs, file extents, orphans."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from btrimg.filesystem import leafrows
from btrimg.filesystem.strings import Slices
from btrimg.named import NamedTuple
from btrimg.ondisk.constants import ItemType, TreeId
from btrimg.ondisk.csum import extref_hash
from btrimg.ondisk.extents import FileExtentInline
from btrimg.ondisk.inodes import DirItem, InodeExtref, InodeItem, InodeRef
from btrimg.tables.entries import merged, records_in, sound, split_records, tell_cut
from btrimg.tables.hashes import name_hashes
from btrimg.tables.schema import NAME_SOURCES
from btrimg.trees.batches import whole

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from btrimg.ondisk.record import Record
    from btrimg.tables.entries import Rows
    from btrimg.tables.leafscan import Facts, Taken
    from btrimg.trees.batches import Structs
    from btrimg.trees.leafbatch import LeafBatch

    Ints = NDArray[np.int64]
    Unsigned = NDArray[np.uint64]
    Arrays = dict[str, NDArray[Any]]

_TIMES = ("atime", "ctime", "mtime", "otime")
_NUMBERS = ("generation", "transid", "size", "nbytes", "nlink", "uid", "gid", "mode", "rdev", "flags", "sequence")
_SAME_IN_EXTENT_COLUMNS = (
    *("inode", "offset", "length", "kind", "compression"),
    *("extent_length", "extent_offset", "ram_bytes", "generation"),
)
_SOURCE_CODES = np.zeros(256, np.uint8)
_SOURCE_CODES[list(NAME_SOURCES)] = range(len(NAME_SOURCES))


def inodes(batch: LeafBatch, facts: Facts) -> Taken:
    """Return the rows of ``inodes``."""
    items = sound(batch.of_type(ItemType.INODE_ITEM), InodeItem.SIZE, facts.report)
    record = items.records(InodeItem)
    columns = {name: record[name] for name in _NUMBERS}
    for name in _TIMES:
        columns[name], columns[f"{name}_nsec"] = record[name]["sec"], record[name]["nsec"]
    return items, {"inode": items.objectid, **columns}


def names(batch: LeafBatch, facts: Facts) -> Taken:
    """Return the rows of ``names``: in each leaf entries, references, extended references."""
    takes = [_entries, _references]
    if ItemType.INODE_EXTREF in batch.types:  # seldom
        takes.append(_extended_references)
    items, columns = merged([take(batch, facts) for take in takes])
    name = Slices(items.data, columns.pop("_at"), columns.pop("_length"))
    hashed = np.flatnonzero(items.key_type == ItemType.DIR_ITEM)
    expected = np.zeros(len(name.length), np.uint64)
    expected[hashed] = name_hashes(name.take(hashed))
    extended = np.flatnonzero(items.key_type == ItemType.INODE_EXTREF)  # there are few
    for number, text in zip(extended.tolist(), name.take(extended).cut().to_list(), strict=True):
        expected[number] = extref_hash(int(columns["parent"][number]), text)
    code = _SOURCE_CODES[items.key_type]
    return items, {"source": code, "name": name, "name_length": name.length, "expected_hash": expected, **columns}


class Entries(NamedTuple):
    """The entries in items of directories and xattrs, one after the other."""

    number: Ints  #: of the item, of each
    items: LeafBatch  #: the item, with position and size of the entry alone
    record: Structs  #: DirItem
    cut: Ints  #: numbers of the items that end inside an entry, which is left out


def entries_of(batch: LeafBatch) -> Entries:
    """Return all entries of *batch*, for its ``once``."""
    number = batch.numbers_of(ItemType.DIR_ITEM, ItemType.DIR_INDEX, ItemType.XATTR_ITEM)
    found, record = records_in(batch.data, batch.position[number], batch.size[number], DirItem, "name_len", "data_len")
    each = number[found.number]
    items = batch.take(each)._replace(position=found.position, size=found.size)
    return Entries(each, items, record, number[found.cut])


def _entries_of(batch: LeafBatch, facts: Facts, *, xattrs: bool) -> tuple[LeafBatch, Structs]:
    """Return the entries of directories, or of *xattrs*; those that are cut short are reported."""
    found = batch.once(entries_of)
    tell_cut(batch, found.cut[(batch.key_type[found.cut] == ItemType.XATTR_ITEM) == xattrs], facts.report)
    kept = (found.items.key_type == ItemType.XATTR_ITEM) == xattrs
    if kept.all():
        return found.items, found.record
    rows = np.flatnonzero(kept)
    return found.items.take(rows), whole(found.record)[rows].view(found.record.dtype)


def _entries(batch: LeafBatch, facts: Facts) -> Rows:
    items, record = _entries_of(batch, facts, xattrs=False)
    by_hash = items.key_type == ItemType.DIR_ITEM
    return items, {
        "parent": items.objectid,
        "inode": record["location"]["objectid"],
        "index": np.where(by_hash, 0, items.offset),
        "hash": np.where(by_hash, items.offset, 0),
        "location_type": record["location"]["type"],
        "type": record["type"],
        "transid": record["transid"],
        "_at": items.position + DirItem.SIZE,
        "_length": record["name_len"].astype(np.int64),
    }


def _references(batch: LeafBatch, facts: Facts) -> Rows:
    items, record = split_records(batch.of_type(ItemType.INODE_REF), InodeRef, facts.report)
    return items, _reference_columns(items, record, InodeRef, items.offset, np.zeros(len(record), np.uint64))


def _extended_references(batch: LeafBatch, facts: Facts) -> Rows:
    items, record = split_records(batch.of_type(ItemType.INODE_EXTREF), InodeExtref, facts.report)
    return items, _reference_columns(items, record, InodeExtref, record["parent_objectid"], items.offset)


def _reference_columns(
    items: LeafBatch, record: Structs, kind: type[Record], parent: Unsigned, hashed: Unsigned
) -> Arrays:
    return {
        "parent": parent,
        "inode": items.objectid,
        "index": record["index"],
        "hash": hashed,
        "location_type": np.zeros(len(record), np.uint8),
        "type": np.zeros(len(record), np.uint8),
        "transid": np.zeros(len(record), np.uint64),
        "_at": items.position + kind.SIZE,
        "_length": record["name_len"].astype(np.int64),
    }


def xattrs(batch: LeafBatch, facts: Facts) -> Taken:
    """Return the rows of ``xattrs``."""
    items, record = _entries_of(batch, facts, xattrs=True)
    at, length = items.position + DirItem.SIZE, record["name_len"].astype(np.int64)
    name = Slices(items.data, at, length)
    return items, {
        "inode": items.objectid,
        "hash": items.offset,
        "name": name,
        "value": Slices(items.data, at + length, record["data_len"].astype(np.int64)),
        "name_length": length,
        "value_length": record["data_len"],
        "expected_hash": name_hashes(name),
    }


def file_extents(batch: LeafBatch, facts: Facts) -> Taken:
    """Return the rows of ``file_extents``; those that make no sense are reported, as ``Image.extents`` does."""
    items, record, inline = leafrows.sound_file_extents(batch, facts.report)
    rows = leafrows.extent_columns(items, record, inline)
    return items, {
        "extent": rows.extent_logical,
        **{name: getattr(rows, name) for name in _SAME_IN_EXTENT_COLUMNS},
        "inline_stored": np.where(inline, items.size - FileExtentInline.SIZE, 0),
        "inline_ram_bytes": np.where(inline, record["ram_bytes"], 0),
    }


def orphans(batch: LeafBatch, _facts: Facts) -> Taken:
    """Return the rows of ``orphans``."""
    items = batch.of_type(ItemType.ORPHAN_ITEM)
    items = items.take(items.objectid == TreeId.ORPHAN)
    return items, {"objectid": items.offset}
