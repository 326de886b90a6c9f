"""Rows of the relations made one item at a time from the point path: slow, and written without the fast path."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from btrimg.errors import NotFoundError
from btrimg.filesystem.extents import row_of_item
from btrimg.filesystem.spacecache import cached_free_space
from btrimg.ondisk.chunks import BlockGroupItem, Chunk, DevExtent, DevItem
from btrimg.ondisk.constants import BlockGroup, ExtentFlag, ItemType, TreeId
from btrimg.ondisk.csum import extref_hash, name_hash
from btrimg.ondisk.extents import (
    ExtentDataRef,
    ExtentItem,
    FileExtentInline,
    InlineDataRef,
    InlineRef,
    InlineSharedDataRef,
    SharedDataRef,
    TreeBlockInfo,
)
from btrimg.ondisk.inodes import DirItem, InodeExtref, InodeItem, InodeRef
from btrimg.ondisk.items import parse
from btrimg.ondisk.roots import RootItem
from btrimg.volume.superblocks import uuid_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from btrimg.filesystem.image import Image
    from btrimg.ondisk.blocks import Key
    from btrimg.ondisk.record import Record

    Row = tuple[Any, ...]
    Item = tuple[Key, bytes]
    Rows = Callable[[Image], Iterator[Row]]


def items_of(image: Image, tree_id: int, *types: int) -> Iterator[Item]:
    try:
        tree = image.tree(tree_id)
    except NotFoundError:
        return
    for key, payload in tree.items():
        if key.type in types:
            yield key, payload


def file_items(image: Image, *types: int) -> Iterator[tuple[int, Key, bytes]]:
    for subvolume in image.subvolumes():
        for key, payload in subvolume.tree.items():
            if key.type in types:
                yield subvolume.id, key, payload


def records(key: Key, payload: bytes) -> tuple[Record, ...]:
    value = parse(key.type, payload)
    assert not value.tail
    return value.records


def text(name: bytes) -> str:
    return name.decode("utf-8", "backslashreplace")


def kind(flags: int) -> tuple[str, str]:
    held = [word for bit, word in ((1, "data"), (2, "system"), (4, "metadata")) if flags & bit]
    profiles = [bit.name.lower() for bit in BlockGroup if bit >= BlockGroup.RAID0 and flags & bit and bit.name]
    return "+".join(held), "".join(profiles) or "single"


def devices(image: Image) -> Iterator[Row]:
    for key, payload in items_of(image, TreeId.CHUNK_TREE, ItemType.DEV_ITEM):
        item = DevItem.unpack(payload)
        device = image.volume.devices.get(item.devid)
        path = device.path if device else ""
        ids = (item.devid, uuid_text(item.uuid), uuid_text(item.fsid))
        yield *ids, item.total_bytes, item.bytes_used, path, key.offset


def chunks(image: Image) -> Iterator[Row]:
    for key, payload in items_of(image, TreeId.CHUNK_TREE, ItemType.CHUNK_ITEM):
        chunk = Chunk.unpack(payload)
        numbers = (chunk.stripe_len, chunk.num_stripes, chunk.sub_stripes, chunk.owner, chunk.sector_size)
        yield key.offset, chunk.length, chunk.type, *kind(chunk.type), *numbers


def stripes(image: Image) -> Iterator[Row]:
    for key, payload in items_of(image, TreeId.CHUNK_TREE, ItemType.CHUNK_ITEM):
        for number, stripe in enumerate(Chunk.unpack(payload).stripes):
            yield key.offset, number, stripe.devid, stripe.offset, uuid_text(stripe.dev_uuid)


def dev_extents(image: Image) -> Iterator[Row]:
    for key, payload in items_of(image, TreeId.DEV_TREE, ItemType.DEV_EXTENT):
        item = DevExtent.unpack(payload)
        yield key.objectid, key.offset, item.length, item.chunk_offset, item.chunk_tree, item.chunk_objectid


def block_groups(image: Image) -> Iterator[Row]:
    for tree in (TreeId.EXTENT_TREE, TreeId.BLOCK_GROUP_TREE):
        for key, payload in items_of(image, tree, ItemType.BLOCK_GROUP_ITEM):
            item = BlockGroupItem.unpack(payload)
            yield key.objectid, key.offset, item.used, item.flags, *kind(item.flags), item.chunk_objectid


def roots(image: Image) -> Iterator[Row]:
    for key, payload in items_of(image, TreeId.ROOT_TREE, ItemType.ROOT_ITEM):
        (root,) = records(key, payload)
        assert isinstance(root, RootItem)
        numbers = (root.bytenr, root.level, root.generation, root.refs, root.flags, root.bytes_used)
        more = (root.last_snapshot, root.root_dirid, root.drop_progress.objectid, root.drop_level, root.generation_v2)
        yield key.objectid, key.offset, *numbers, *more


def inodes(image: Image) -> Iterator[Row]:
    for subvolume, key, payload in file_items(image, ItemType.INODE_ITEM):
        (item,) = records(key, payload)
        assert isinstance(item, InodeItem)
        numbers = (item.generation, item.transid, item.size, item.nbytes, item.nlink, item.uid, item.gid, item.mode)
        times = (part for each in (item.atime, item.ctime, item.mtime, item.otime) for part in each)
        yield subvolume, key.objectid, *numbers, item.rdev, item.flags, item.sequence, *times


def names(image: Image) -> Iterator[Row]:
    entries = (ItemType.DIR_ITEM, ItemType.DIR_INDEX)
    for subvolume, key, payload in file_items(image, *entries, ItemType.INODE_REF, ItemType.INODE_EXTREF):
        for each in records(key, payload):
            if isinstance(each, InodeRef):
                yield subvolume, "inode_ref", key.offset, key.objectid, each.index, *(0,) * 4, *named(each.name, 0)
            elif isinstance(each, InodeExtref):
                where = (each.parent_objectid, key.objectid, each.index, key.offset)
                hashed = extref_hash(each.parent_objectid, each.name)
                yield subvolume, "inode_extref", *where, 0, 0, 0, *named(each.name, hashed)
            elif isinstance(each, DirItem):
                place = (0, key.offset) if key.type == ItemType.DIR_ITEM else (key.offset, 0)
                leads = (each.location.type, each.type, each.transid)
                source = ItemType(key.type).name.lower()
                hashed = name_hash(each.name) if source == "dir_item" else 0
                ends = (key.objectid, each.location.objectid)
                yield subvolume, source, *ends, *place, *leads, *named(each.name, hashed)


def named(name: bytes, expected_hash: int) -> Row:
    return text(name), len(name), expected_hash


def xattrs(image: Image) -> Iterator[Row]:
    for subvolume, key, payload in file_items(image, ItemType.XATTR_ITEM):
        for each in records(key, payload):
            assert isinstance(each, DirItem)
            sizes = (len(each.name), len(each.data))
            yield subvolume, key.objectid, key.offset, text(each.name), each.data, *sizes, name_hash(each.name)


def file_extents(image: Image) -> Iterator[Row]:
    for subvolume, key, payload in file_items(image, ItemType.EXTENT_DATA):
        row = row_of_item(key, payload)
        extent = row.extent
        numbers = (extent.logical, extent.length, extent.offset, extent.ram_bytes, extent.generation) if extent else ()
        compression = ("none", "zlib", "lzo", "zstd")[row.compression]
        inline = (len(payload) - FileExtentInline.SIZE, FileExtentInline.unpack(payload).ram_bytes)
        told = inline if row.kind == "inline" else (0, 0)
        yield subvolume, key.objectid, row.offset, row.length, row.kind, compression, *(numbers or (0,) * 5), *told


def extents(image: Image) -> Iterator[Row]:
    for key, payload in items_of(image, TreeId.EXTENT_TREE, ItemType.EXTENT_ITEM, ItemType.METADATA_ITEM):
        head, *rest = records(key, payload)
        assert isinstance(head, ExtentItem)
        numbers = (head.refs, head.generation, head.flags)
        if key.type == ItemType.METADATA_ITEM:
            yield key.objectid, image.volume.nodesize, "tree block", key.offset, *numbers
        elif head.flags & ExtentFlag.TREE_BLOCK:
            assert isinstance(rest[0], TreeBlockInfo)
            yield key.objectid, key.offset, "tree block", rest[0].level, *numbers
        else:
            yield key.objectid, key.offset, "data", 0, *numbers


def backrefs(image: Image) -> Iterator[Row]:
    inline = (ItemType.EXTENT_ITEM, ItemType.METADATA_ITEM)
    keyed = (ItemType.TREE_BLOCK_REF, ItemType.SHARED_BLOCK_REF, ItemType.EXTENT_DATA_REF, ItemType.SHARED_DATA_REF)
    for key, payload in items_of(image, TreeId.EXTENT_TREE, *inline, *keyed):
        if key.type == ItemType.TREE_BLOCK_REF:
            yield key.objectid, "tree_block", False, key.offset, 0, 0, 0, 1
        elif key.type == ItemType.SHARED_BLOCK_REF:
            yield key.objectid, "shared_block", False, 0, key.offset, 0, 0, 1
        for each in records(key, payload):
            if isinstance(each, InlineRef):
                names = {ItemType.TREE_BLOCK_REF: "tree_block", ItemType.EXTENT_OWNER_REF: "owner"}
                shared = each.type == ItemType.SHARED_BLOCK_REF
                name = "shared_block" if shared else names[ItemType(each.type)]
                yield key.objectid, name, True, *((0, each.offset) if shared else (each.offset, 0)), 0, 0, 1
            elif isinstance(each, InlineDataRef | ExtentDataRef):
                offset = each.offset - (1 << 64) if each.offset >> 63 else each.offset
                own = isinstance(each, InlineDataRef)
                yield key.objectid, "extent_data", own, each.root, 0, each.objectid, offset, each.count
            elif isinstance(each, InlineSharedDataRef):
                yield key.objectid, "shared_data", True, 0, each.offset, 0, 0, each.count
            elif isinstance(each, SharedDataRef):
                yield key.objectid, "shared_data", False, 0, key.offset, 0, 0, each.count


def csums(image: Image) -> Iterator[Row]:
    for key, payload in items_of(image, TreeId.CSUM_TREE, ItemType.EXTENT_CSUM):
        yield key.offset, len(payload) // image.volume.csum.size * image.volume.sectorsize


def free_space(image: Image) -> Iterator[Row]:
    types = (ItemType.FREE_SPACE_EXTENT, ItemType.FREE_SPACE_BITMAP)
    sector = image.volume.sectorsize
    in_tree = ((item, "") for item in items_of(image, TreeId.FREE_SPACE_TREE, *types))
    for (key, payload), cached in (*in_tree, *((item, "cache") for item in cached_free_space(image))):
        if key.type == ItemType.FREE_SPACE_EXTENT:
            yield key.objectid, key.offset, cached or "extent"
        else:
            for first, count in runs(payload):
                yield key.objectid + first * sector, count * sector, cached or "bitmap"


def runs(bitmap: bytes) -> Iterator[tuple[int, int]]:
    """Yield first bit and length of every run of set bits."""
    first = None
    for bit in range(len(bitmap) * 8 + 1):
        is_set = bit < len(bitmap) * 8 and bitmap[bit // 8] >> bit % 8 & 1
        if is_set and first is None:
            first = bit
        elif not is_set and first is not None:
            yield first, bit - first
            first = None


def orphans(image: Image) -> Iterator[Row]:
    for key, _ in items_of(image, TreeId.ROOT_TREE, ItemType.ORPHAN_ITEM):
        yield TreeId.ROOT_TREE, key.offset
    for subvolume, key, _ in file_items(image, ItemType.ORPHAN_ITEM):
        yield subvolume, key.offset


REFERENCE: dict[str, Rows] = {
    rows.__name__: rows
    for rows in (
        *(devices, chunks, stripes, dev_extents, block_groups, roots, inodes, names, xattrs, file_extents),
        *(extents, backrefs, csums, free_space, orphans),
    )
}
