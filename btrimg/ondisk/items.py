"""Items: what stands behind each key type, one table.

``parse`` never fails and ``build`` is its exact inverse for any bytes at all: what does not fit the type stays in
``tail``. Whoever needs an item whole asks :func:`records_of`, which refuses a tail.
"""

from __future__ import annotations

from contextlib import suppress

from btrimg.errors import CorruptError
from btrimg.named import NamedTuple
from btrimg.ondisk import chunks, inodes, roots
from btrimg.ondisk.constants import ExtentFlag, FileExtentType, ItemType, TreeId
from btrimg.ondisk.extents import (
    ExtentDataRef,
    ExtentItem,
    ExtentItemV0,
    ExtentOwnerRef,
    FileExtent,
    FileExtentInline,
    InlineDataRef,
    InlineRef,
    InlineSharedDataRef,
    SharedDataRef,
    TreeBlockInfo,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import TypeVar

    from btrimg.ondisk.blocks import Key
    from btrimg.ondisk.record import Record

    Classes = tuple[type[Record], ...]
    Shape = Callable[[Classes, int, bytes], Iterator[Record]]
    R = TypeVar("R", bound=Record)


class ItemValue(NamedTuple):
    """The payload of an item, taken apart."""

    records: tuple[Record, ...]  #: in disk order
    tail: bytes = b""  #: what follows them: opaque content, slack, or whatever does not fit the type
    lacking: int = 0  #: bytes by which a growable item is shorter than its record


class ItemKind(NamedTuple):
    """What is known of one key type."""

    name: str  #: as btrfs-progs prints it
    trees: tuple[TreeId, ...]  #: where such items stand; FS_TREE is every tree of files, TREE_LOG every log tree
    shape: Shape  #: yields the records at the start of a payload, given the classes, key type and payload
    records: Classes  #: the classes that a payload may hold
    shortest: int | None = None  #: of a growable record: bytes that must be there; more than its size may follow


def _opaque(_records: Classes, _type: int, _payload: bytes) -> Iterator[Record]:
    return iter(())


def _one(records: Classes, _type: int, payload: bytes) -> Iterator[Record]:
    yield records[0].unpack(payload)


def _several(records: Classes, _type: int, payload: bytes) -> Iterator[Record]:
    offset = 0
    while offset < len(payload):
        entry = records[0].unpack(payload, offset)
        yield entry
        offset += entry.packed_size()


def _file_extent(_records: Classes, _type: int, payload: bytes) -> Iterator[Record]:
    type_at = FileExtentInline.SIZE - 1  # in both
    inline = len(payload) > type_at and payload[type_at] == FileExtentType.INLINE
    yield (FileExtentInline if inline else FileExtent).unpack(payload)


#: What a backref inside an extent item is, by its type.
INLINE_REFS: dict[int, type[Record]] = {
    ItemType.TREE_BLOCK_REF: InlineRef,
    ItemType.SHARED_BLOCK_REF: InlineRef,
    ItemType.EXTENT_OWNER_REF: InlineRef,
    ItemType.EXTENT_DATA_REF: InlineDataRef,
    ItemType.SHARED_DATA_REF: InlineSharedDataRef,
}


def _extent_item(_records: Classes, key_type: int, payload: bytes) -> Iterator[Record]:
    if len(payload) == ExtentItemV0.SIZE:
        yield ExtentItemV0.unpack(payload)
        return
    head = ExtentItem.unpack(payload)
    yield head
    offset = head.SIZE
    if key_type == ItemType.EXTENT_ITEM and head.flags & ExtentFlag.TREE_BLOCK:
        yield TreeBlockInfo.unpack(payload, offset)
        offset += TreeBlockInfo.SIZE
    while offset < len(payload) and (record := INLINE_REFS.get(payload[offset])):
        yield record.unpack(payload, offset)
        offset += record.SIZE


def _block_group(_records: Classes, _type: int, payload: bytes) -> Iterator[Record]:
    v2 = len(payload) == chunks.BlockGroupItemV2.SIZE
    yield (chunks.BlockGroupItemV2 if v2 else chunks.BlockGroupItem).unpack(payload)


def _kind(
    key_type: ItemType,
    trees: tuple[TreeId, ...],
    shape: Shape = _opaque,
    *records: type[Record],
    shortest: int | None = None,
) -> tuple[int, ItemKind]:
    return key_type, ItemKind(key_type.name, trees, shape, records, shortest)


_ROOT, _EXTENT, _CHUNK = (TreeId.ROOT_TREE,), (TreeId.EXTENT_TREE,), (TreeId.CHUNK_TREE,)
_DEV, _UUID, _QUOTA = (TreeId.DEV_TREE,), (TreeId.UUID_TREE,), (TreeId.QUOTA_TREE,)
_SPACE, _REMAP = (TreeId.FREE_SPACE_TREE,), (TreeId.REMAP_TREE,)
_LOG, _FILES = (TreeId.TREE_LOG,), (TreeId.FS_TREE, TreeId.TREE_LOG)
_INODES = (*_FILES, *_ROOT)  # the root tree has a directory, for the default subvolume, and v1 space caches
_BACKREFS = (ExtentItem, TreeBlockInfo, InlineRef, InlineDataRef, InlineSharedDataRef)

ITEM_KINDS: dict[int, ItemKind] = dict(
    (
        _kind(ItemType.UNTYPED, _ROOT, _one, chunks.FreeSpaceHeader),
        _kind(ItemType.INODE_ITEM, _INODES, _one, inodes.InodeItem),
        _kind(ItemType.INODE_REF, _INODES, _several, inodes.InodeRef),
        _kind(ItemType.INODE_EXTREF, _FILES, _several, inodes.InodeExtref),
        _kind(ItemType.XATTR_ITEM, _FILES, _several, inodes.DirItem),
        # Which payload is a VerityDescriptor only the key's offset tells: it is 0.
        _kind(ItemType.VERITY_DESC_ITEM, _FILES, _opaque, inodes.VerityDescriptor),
        _kind(ItemType.VERITY_MERKLE_ITEM, _FILES),
        _kind(ItemType.ORPHAN_ITEM, (TreeId.FS_TREE, TreeId.ROOT_TREE)),
        _kind(ItemType.DIR_LOG_ITEM, _LOG, _one, inodes.DirLogItem),
        _kind(ItemType.DIR_LOG_INDEX, _LOG, _one, inodes.DirLogItem),
        _kind(ItemType.DIR_ITEM, _INODES, _several, inodes.DirItem),
        _kind(ItemType.DIR_INDEX, _FILES, _several, inodes.DirItem),
        _kind(ItemType.EXTENT_DATA, _INODES, _file_extent, FileExtent, FileExtentInline),
        _kind(ItemType.CSUM_ITEM, ()),
        _kind(ItemType.EXTENT_CSUM, (TreeId.CSUM_TREE, TreeId.TREE_LOG)),
        _kind(ItemType.ROOT_ITEM, (*_ROOT, *_LOG), _one, roots.RootItem, shortest=roots.LEGACY_ROOT_ITEM_SIZE),
        _kind(ItemType.ROOT_BACKREF, _ROOT, _one, roots.RootRef),
        _kind(ItemType.ROOT_REF, _ROOT, _one, roots.RootRef),
        _kind(ItemType.EXTENT_ITEM, _EXTENT, _extent_item, *_BACKREFS, ExtentItemV0),
        _kind(ItemType.METADATA_ITEM, _EXTENT, _extent_item, *_BACKREFS),
        _kind(ItemType.EXTENT_OWNER_REF, _EXTENT, _one, ExtentOwnerRef),
        _kind(ItemType.TREE_BLOCK_REF, _EXTENT),
        _kind(ItemType.EXTENT_DATA_REF, _EXTENT, _one, ExtentDataRef),
        _kind(ItemType.EXTENT_REF_V0, _EXTENT),
        _kind(ItemType.SHARED_BLOCK_REF, _EXTENT),
        _kind(ItemType.SHARED_DATA_REF, _EXTENT, _one, SharedDataRef),
        _kind(
            ItemType.BLOCK_GROUP_ITEM,
            (*_EXTENT, TreeId.BLOCK_GROUP_TREE),
            _block_group,
            chunks.BlockGroupItem,
            chunks.BlockGroupItemV2,
        ),
        _kind(ItemType.FREE_SPACE_INFO, _SPACE, _one, chunks.FreeSpaceInfo),
        _kind(ItemType.FREE_SPACE_EXTENT, _SPACE),
        _kind(ItemType.FREE_SPACE_BITMAP, _SPACE),
        _kind(ItemType.DEV_EXTENT, _DEV, _one, chunks.DevExtent),
        _kind(ItemType.DEV_ITEM, _CHUNK, _one, chunks.DevItem),
        _kind(ItemType.CHUNK_ITEM, _CHUNK, _one, chunks.Chunk),
        _kind(ItemType.RAID_STRIPE, (TreeId.RAID_STRIPE_TREE,), _several, chunks.RaidStride),
        _kind(ItemType.IDENTITY_REMAP, _REMAP),
        _kind(ItemType.REMAP, _REMAP, _one, chunks.RemapItem),
        _kind(ItemType.REMAP_BACKREF, _REMAP, _one, chunks.RemapItem),
        _kind(ItemType.QGROUP_STATUS, _QUOTA, _one, roots.QgroupStatus, shortest=32),
        _kind(ItemType.QGROUP_INFO, _QUOTA, _one, roots.QgroupInfo),
        _kind(ItemType.QGROUP_LIMIT, _QUOTA, _one, roots.QgroupLimit),
        _kind(ItemType.QGROUP_RELATION, _QUOTA),
        _kind(ItemType.TEMPORARY_ITEM, _ROOT, _one, chunks.BalanceItem),
        _kind(ItemType.PERSISTENT_ITEM, _DEV, _one, chunks.DevStats, shortest=0),
        _kind(ItemType.DEV_REPLACE, _DEV, _one, chunks.DevReplace),
        _kind(ItemType.UUID_KEY_SUBVOL, _UUID, _several, roots.UuidSubvolume),
        _kind(ItemType.UUID_KEY_RECEIVED_SUBVOL, _UUID, _several, roots.UuidSubvolume),
        _kind(ItemType.STRING_ITEM, _ROOT),
    )
)

_UNKNOWN = ItemKind("UNKNOWN", (), _opaque, ())


def kind_of(key_type: int) -> ItemKind:
    """Return what is known of *key_type*; of an unknown one, that its payload is opaque."""
    return ITEM_KINDS.get(key_type, _UNKNOWN)


def parse(key_type: int, payload: bytes) -> ItemValue:
    """Return *payload* as records and what remains; never fails."""
    kind = kind_of(key_type)
    growable = kind.shortest is not None and len(payload) >= kind.shortest
    lacking = max(kind.records[0].SIZE - len(payload), 0) if growable else 0
    records: list[Record] = []
    size = 0
    with suppress(CorruptError):  # what cannot be unpacked is the tail
        for record in kind.shape(kind.records, key_type, payload + bytes(lacking)):
            records.append(record)
            size += record.packed_size()
    return ItemValue(tuple(records), payload[size:], lacking)


def parse_item(key: Key, payload: bytes) -> ItemValue:
    """Return the payload of the item at *key* as :func:`parse` does, and the head of fs-verity data as a record too."""
    if key.type == ItemType.VERITY_DESC_ITEM and not key.offset and len(payload) >= inodes.VerityDescriptor.SIZE:
        return ItemValue((inodes.VerityDescriptor.unpack(payload),), payload[inodes.VerityDescriptor.SIZE :])
    return parse(key.type, payload)


def cut_off(key: Key, value: ItemValue) -> type[Record] | None:
    """Return the structure that the tail of *value* begins like, where a length or type in it does not fit, or None."""
    kind = kind_of(key.type)
    if kind.shape is _extent_item and value.records:
        following: type[Record] = InlineRef
    elif kind.shape is _several or (kind.shape is not _opaque and not value.records):
        following = kind.records[0]
    else:
        return None
    return following if len(value.tail) >= following.SIZE else None


def build(value: ItemValue) -> bytes:
    """Return the payload that *value* was parsed from."""
    whole = b"".join(record.pack() for record in value.records)
    return whole[: len(whole) - value.lacking] + value.tail


def records_of(record: type[R], key_type: int, payload: bytes) -> tuple[R, ...]:
    """Return the records of an item: one or more, all of one class, and no tail but for growable items.

    Raises CorruptError when something does not fit the type.
    """
    kind = kind_of(key_type)
    value = parse(key_type, payload)
    found = tuple(each for each in value.records if isinstance(each, record))
    if not found or len(found) != len(value.records):
        raise CorruptError(f"{kind.name} of {len(payload)} bytes is not {record.__name__}")
    if value.tail and kind.shortest is None:
        raise CorruptError(f"{kind.name} of {len(payload)} bytes ends with {len(value.tail)} that do not fit")
    return found
