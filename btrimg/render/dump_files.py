"""Bodies of the items of subvolumes: inodes, names, file extents; and of the roots that lead there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from btrimg.ondisk import extents, inodes, roots
from btrimg.ondisk.constants import (
    FILE_TYPE_ENCRYPTED,
    Compression,
    FileExtentType,
    FileType,
    InodeFlag,
    ItemType,
    RootFlag,
)
from btrimg.render.names import date_text, flags_text, key_text
from btrimg.volume.superblocks import uuid_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from btrimg.ondisk.blocks import Key
    from btrimg.ondisk.record import Record
    from btrimg.render.style import Style

    Lines = Iterator[str]
    Printer = Callable[[Key, Any, Style], Lines]

_FILE_TYPES = {int(t): t.name for t in FileType if t} | {int(FileType.REG_FILE): "FILE"}
_EXTENT_TYPES = {int(t): t.name.lower() for t in FileExtentType}
_COMPRESSIONS = {int(c): c.name.lower() for c in Compression}


def _time(what: str, time: inodes.Timespec) -> str:
    # btrfs-progs prints the seconds unsigned and the nanoseconds unpadded
    return f"\t\t{what} {time.sec % (1 << 64)}.{time.nsec} ({date_text(time.sec)})"


def _inode(_key: Key, inode: inodes.InodeItem, _style: Style) -> Lines:
    yield (f"\t\tgeneration {inode.generation} transid {inode.transid} size {inode.size} nbytes {inode.nbytes}")
    yield (
        f"\t\tblock group {inode.block_group} mode {inode.mode:o} links {inode.nlink}"
        f" uid {inode.uid} gid {inode.gid} rdev {inode.rdev}"
    )
    yield f"\t\tsequence {inode.sequence} flags 0x{inode.flags:x}({flags_text(inode.flags, InodeFlag)})"
    for what in ("atime", "ctime", "mtime", "otime"):
        yield _time(what, getattr(inode, what))


def _inode_ref(_key: Key, ref: inodes.InodeRef, style: Style) -> Lines:
    yield f"\t\tindex {ref.index} namelen {ref.name_len} name: {style.name(ref.name)}"


def _inode_extref(_key: Key, ref: inodes.InodeExtref, style: Style) -> Lines:
    yield f"\t\tindex {ref.index} parent {ref.parent_objectid} namelen {ref.name_len} name: {style.name(ref.name)}"


def _dir_item(_key: Key, entry: inodes.DirItem, style: Style) -> Lines:
    kind = entry.type & ~FILE_TYPE_ENCRYPTED
    yield f"\t\tlocation {key_text(entry.location)} type {_FILE_TYPES.get(kind) or f'DIR_ITEM.{kind}'}"
    yield f"\t\ttransid {entry.transid} data_len {entry.data_len} name_len {entry.name_len}"
    yield f"\t\tname: {style.name(entry.name)}"
    if entry.data_len:
        yield f"\t\tdata {style.name(entry.data)}"


def _dir_log(_key: Key, log: inodes.DirLogItem, _style: Style) -> Lines:
    yield f"\t\tdir log end {log.end}"


def _compression(number: int) -> str:
    return f"compression {number} ({_COMPRESSIONS.get(number) or f'UNKNOWN.{number}'})"


def _file_extent_head(extent: extents.FileExtent | extents.FileExtentInline) -> str:
    return f"\t\tgeneration {extent.generation} type {extent.type} ({_EXTENT_TYPES.get(extent.type, 'unknown')})"


def _file_extent(_key: Key, extent: extents.FileExtent, _style: Style) -> Lines:
    yield _file_extent_head(extent)
    if extent.type == FileExtentType.PREALLOC:
        yield f"\t\tprealloc data disk byte {extent.disk_bytenr} nr {extent.disk_num_bytes}"
        yield f"\t\tprealloc data offset {extent.offset} nr {extent.num_bytes}"
        return
    yield f"\t\textent data disk byte {extent.disk_bytenr} nr {extent.disk_num_bytes}"
    yield f"\t\textent data offset {extent.offset} nr {extent.num_bytes} ram {extent.ram_bytes}"
    yield f"\t\textent {_compression(extent.compression)}"


def _file_extent_inline(_key: Key, extent: extents.FileExtentInline, _style: Style) -> Lines:
    yield _file_extent_head(extent)
    yield (
        f"\t\tinline extent data size {len(extent.data)} ram_bytes {extent.ram_bytes}"
        f" {_compression(extent.compression)}"
    )


def _root_item(_key: Key, root: roots.RootItem, _style: Style) -> Lines:
    yield (
        f"\t\tgeneration {root.generation} root_dirid {root.root_dirid} bytenr {root.bytenr}"
        f" byte_limit {root.byte_limit} bytes_used {root.bytes_used}"
    )
    flags = flags_text(root.flags, RootFlag).replace("SUBVOL_", "")
    yield f"\t\tlast_snapshot {root.last_snapshot} flags 0x{root.flags:x}({flags}) refs {root.refs}"
    yield f"\t\tdrop_progress {key_text(root.drop_progress)} drop_level {root.drop_level}"
    yield f"\t\tlevel {root.level} generation_v2 {root.generation_v2}"
    if root.generation != root.generation_v2:  # the rest is stale
        return
    for what in ("uuid", "parent_uuid", "received_uuid"):
        yield f"\t\t{what} {uuid_text(getattr(root, what))}"
    yield (f"\t\tctransid {root.ctransid} otransid {root.otransid} stransid {root.stransid} rtransid {root.rtransid}")
    for what in ("ctime", "otime", "stime", "rtime"):
        yield _time(what, getattr(root, what))


def _root_ref(key: Key, ref: roots.RootRef, style: Style) -> Lines:
    what = "ref" if key.type == ItemType.ROOT_REF else "backref"
    yield f"\t\troot {what} key dirid {ref.dirid} sequence {ref.sequence} name {style.name(ref.name)}"


def _uuid_subvolume(_key: Key, entry: roots.UuidSubvolume, _style: Style) -> Lines:
    yield f"\t\tsubvol_id {entry.subvolid}"


#: What each kind of record says.
PRINTERS: dict[type[Record], Printer] = {
    inodes.InodeItem: _inode,
    inodes.InodeRef: _inode_ref,
    inodes.InodeExtref: _inode_extref,
    inodes.DirItem: _dir_item,
    inodes.DirLogItem: _dir_log,
    extents.FileExtent: _file_extent,
    extents.FileExtentInline: _file_extent_inline,
    roots.RootItem: _root_item,
    roots.RootRef: _root_ref,
    roots.UuidSubvolume: _uuid_subvolume,
}
