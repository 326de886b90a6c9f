"""Extents: a file's use of them, the extent tree's record of that use."""

from __future__ import annotations

from btrimg.ondisk.blocks import DiskKey  # noqa: TC001
from btrimg.ondisk.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from btrimg.ondisk.fields import U8, U16, U32, U64, Rest


class FileExtentInline(Record):
    """File data held in the item itself (``struct btrfs_file_extent_item`` up to ``disk_bytenr``)."""

    generation: U64  #: transid that wrote it
    ram_bytes: U64  #: uncompressed length
    compression: U8  #: Compression
    encryption: U8  #: always 0
    other_encoding: U16  #: always 0
    type: U8  #: FileExtentType.INLINE
    data: Rest  #: stored, maybe compressed


class FileExtent(Record):
    """A file's use of part of an extent (``struct btrfs_file_extent_item``).

    Key: (ino, EXTENT_DATA, file offset).
    """

    generation: U64  #: transid that wrote it
    ram_bytes: U64  #: uncompressed length of the whole extent
    compression: U8  #: Compression
    encryption: U8  #: always 0
    other_encoding: U16  #: always 0
    type: U8  #: FileExtentType
    disk_bytenr: U64  #: logical start of the extent; 0 is a hole
    disk_num_bytes: U64  #: bytes allocated
    offset: U64  #: uncompressed bytes skipped at the start of the extent
    num_bytes: U64  #: bytes of the file


class ExtentItem(Record):
    """An allocated range (``struct btrfs_extent_item``); inline references follow.

    Keys: (logical, EXTENT_ITEM, length), or (logical, METADATA_ITEM, level) with skinny metadata.
    """

    refs: U64  #: sum of the counts of all references
    generation: U64  #: transid that allocated it
    flags: U64  #: ExtentFlag


class ExtentItemV0(Record):
    """An allocated range before mixed backrefs, 2009 (``struct btrfs_extent_item_v0``)."""

    refs: U32


class TreeBlockInfo(Record):
    """What follows an ExtentItem of a tree block when metadata is not skinny (``struct btrfs_tree_block_info``)."""

    key: DiskKey  #: first key of the block
    level: U8


class InlineRef(Record):
    """Inline TREE_BLOCK_REF, SHARED_BLOCK_REF or EXTENT_OWNER_REF (``struct btrfs_extent_inline_ref``)."""

    type: U8  #: ItemType
    offset: U64  #: root objectid, or logical address of the parent block


class InlineDataRef(Record):
    """Inline EXTENT_DATA_REF: file extents of one root, inode and start that use the extent."""

    type: U8  #: ItemType.EXTENT_DATA_REF
    root: U64  #: objectid of the subvolume
    objectid: U64  #: ino
    offset: U64  #: file offset minus extent offset, modulo 2**64
    count: U32


class InlineSharedDataRef(Record):
    """Inline SHARED_DATA_REF: file extents in one shared leaf that use the extent."""

    type: U8  #: ItemType.SHARED_DATA_REF
    offset: U64  #: logical address of the leaf
    count: U32


class ExtentDataRef(Record):
    """Keyed EXTENT_DATA_REF (``struct btrfs_extent_data_ref``); key offset: extent_data_ref_hash."""

    root: U64  #: objectid of the subvolume
    objectid: U64  #: ino
    offset: U64  #: file offset minus extent offset, modulo 2**64
    count: U32


class SharedDataRef(Record):
    """Keyed SHARED_DATA_REF (``struct btrfs_shared_data_ref``); key offset: logical address of the leaf."""

    count: U32


class ExtentOwnerRef(Record):
    """Subvolume that first wrote an extent, simple quotas (``struct btrfs_extent_owner_ref``)."""

    root_id: U64
