"""Rows from trees of files: inodes, names, xattrs, file extents, orphans."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from btrimg.filesystem import leafrows
from btrimg.filesystem.strings import Slices
from btrimg.ondisk.constants import ItemType, TreeId
from btrimg.ondisk.csum import extref_hash
from btrimg.ondisk.extents import FileExtentInline
from btrimg.ondisk.inodes import DirItem, InodeExtref, InodeItem, InodeRef
from btrimg.tables.entries import merged, size_by_fields, sound, split
from btrimg.tables.hashes import name_hashes
from btrimg.tables.schema import NAME_SOURCES

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from btrimg.ondisk.record import Record
    from btrimg.tables.entries import Rows
    from btrimg.tables.leafscan import Facts, Taken
    from btrimg.trees.scan import LeafBatch

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
_DIR_ITEM_SIZE = size_by_fields(DirItem, "name_len", "data_len")


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


def _entries(batch: LeafBatch, facts: Facts) -> Rows:
    items = split(batch.of_type(ItemType.DIR_ITEM, ItemType.DIR_INDEX), _DIR_ITEM_SIZE, facts.report)
    record = items.records(DirItem)
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
    items = split(batch.of_type(ItemType.INODE_REF), size_by_fields(InodeRef, "name_len"), facts.report)
    return items, _reference_columns(items, InodeRef, items.offset, np.zeros(len(items.leaf), np.uint64))


def _extended_references(batch: LeafBatch, facts: Facts) -> Rows:
    items = split(batch.of_type(ItemType.INODE_EXTREF), size_by_fields(InodeExtref, "name_len"), facts.report)
    parent = items.records(InodeExtref)["parent_objectid"]
    return items, _reference_columns(items, InodeExtref, parent, items.offset)


def _reference_columns(items: LeafBatch, kind: type[Record], parent: Unsigned, hashed: Unsigned) -> Arrays:
    record = items.records(kind)
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
    items = split(batch.of_type(ItemType.XATTR_ITEM), _DIR_ITEM_SIZE, facts.report)
    record = items.records(DirItem)
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
