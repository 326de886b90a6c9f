"""Roots: subvolumes and trees, quota groups, uuids."""

from __future__ import annotations

import struct

from btrimg.ondisk.blocks import DiskKey, Key
from btrimg.ondisk.inodes import InodeItem, Timespec  # noqa: TC001
from btrimg.ondisk.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Annotated

    from btrimg.ondisk.fields import U8, U16, U32, U64, Uuid, counted, times

LEGACY_ROOT_ITEM_SIZE = 239  #: before v3.6 a root item ended before generation_v2


class RootItem(Record):
    """A tree's root (``struct btrfs_root_item``); key: (tree id, ROOT_ITEM, 0 or the snapshot's transid)."""

    inode: InodeItem
    generation: U64  #: transid that wrote the root block
    root_dirid: U64  #: ino of the top directory
    bytenr: U64  #: logical address of the root block
    byte_limit: U64  #: unused
    bytes_used: U64  #: by the tree's blocks
    last_snapshot: U64  #: transid of the last snapshot taken of it
    flags: U64  #: RootFlag
    refs: U32  #: 0 while the subvolume is being dropped
    drop_progress: DiskKey  #: how far the dropping came
    drop_level: U8
    level: U8  #: of the root block
    generation_v2: U64  #: the rest is stale unless this equals generation
    uuid: Uuid
    parent_uuid: Uuid  #: of the subvolume this is a snapshot of
    received_uuid: Uuid
    ctransid: U64  #: of the last change of an inode
    otransid: U64  #: of its creation
    stransid: U64  #: when sent, in the sender's count
    rtransid: U64  #: when received
    ctime: Timespec
    otime: Timespec
    stime: Timespec
    rtime: Timespec
    reserved: Annotated[tuple[int, ...], times(8, U64)]


class RootRef(Record):
    """Where a subvolume hangs in another (``struct btrfs_root_ref``).

    Keys: (parent id, ROOT_REF, child id) and (child id, ROOT_BACKREF, parent id).
    """

    dirid: U64  #: ino of the directory in the parent
    sequence: U64  #: DIR_INDEX of the name
    name_len: U16
    name: Annotated[bytes, counted("name_len")]


class UuidSubvolume(Record):
    """Subvolume with the uuid that the key holds in objectid and offset, several in one item."""

    subvolid: U64


def uuid_key(uuid: bytes, key_type: int) -> Key:
    """Return where the uuid tree keeps the subvolumes of a *uuid* (fs/btrfs/uuid-tree.c ``btrfs_uuid_to_key``)."""
    objectid, offset = struct.unpack("<QQ", uuid)
    return Key(objectid, key_type, offset)


class QgroupStatus(Record):
    """State of quotas (``struct btrfs_qgroup_status_item``), 32 bytes before v6.7; key: (0, QGROUP_STATUS, 0)."""

    version: U64
    generation: U64
    flags: U64  #: QgroupStatusFlag
    rescan: U64  #: logical address that a running rescan has reached
    enable_gen: U64  #: transid since when simple quotas count


class QgroupInfo(Record):
    """Usage of a quota group (``struct btrfs_qgroup_info_item``); key: (0, QGROUP_INFO, qgroup id)."""

    generation: U64
    rfer: U64  #: bytes referenced
    rfer_cmpr: U64
    excl: U64  #: bytes that no other group references
    excl_cmpr: U64


class QgroupLimit(Record):
    """Limits of a quota group (``struct btrfs_qgroup_limit_item``); key: (0, QGROUP_LIMIT, qgroup id)."""

    flags: U64  #: QgroupLimitFlag
    max_rfer: U64
    max_excl: U64
    rsv_rfer: U64
    rsv_excl: U64
