"""Chunks cut and moved by a transaction: bytes are copied to where nothing is, and the commit tells where they are.

Until the commit, the last state has its chunks and their bytes untouched; from it on, the new one has. All trees that
tell of chunks follow: the chunk tree and the superblock's array, device extents and items, block groups, free space.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from btrimg.edit.grains import Grains
from btrimg.edit.spacecaches import drop_space_caches
from btrimg.errors import NoSpaceError
from btrimg.ondisk.blocks import DiskKey, Key
from btrimg.ondisk.chunks import BlockGroupItem, Chunk, DevExtent, DevItem
from btrimg.ondisk.constants import (
    DEV_ITEMS_OBJECTID,
    FIRST_CHUNK_TREE_OBJECTID,
    U64_MAX,
    BlockGroup,
    CompatRo,
    ItemType,
    TreeId,
)
from btrimg.write.freespace import SpaceRecord, toggle
from btrimg.write.space import Space

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from btrimg.edit.layout import Part, Recut
    from btrimg.volume.writer import Sink
    from btrimg.write.transaction import Transaction

    Range = tuple[int, int]

_AT_ONCE = 8 << 20  # bytes copied in one go


def grains_of(txn: Transaction) -> list[Grains]:
    """Return all chunks in grains, as the extent tree has them in use."""
    return [Grains(chunk, extents_between(txn, chunk.logical, chunk.end)) for chunk in txn.volume.chunk_map]


def extents_between(txn: Transaction, start: int, end: int) -> Iterator[Range]:
    """Yield the extents that begin in [start, end), as logical start and end."""
    for key, _ in txn.tree(TreeId.EXTENT_TREE).items(Key(start, 0, 0), Key(end - 1, 255, U64_MAX)):
        if key.type == ItemType.METADATA_ITEM:
            yield key.objectid, key.objectid + txn.volume.nodesize
        elif key.type == ItemType.EXTENT_ITEM:
            yield key.objectid, key.objectid + key.offset


def recut(txn: Transaction, sink: Sink, recuts: Iterable[Recut]) -> None:
    """Do *recuts* in the transaction *txn*, in which nothing has been allocated yet, copying through *sink*.

    If it is not committed, the volume must be made to follow the superblock that counts still. Raises NoSpaceError when
    the superblock has no room for the system chunks, DeviceError when what is to be copied cannot be read.
    """
    recuts = list(recuts)
    for each in recuts:
        for part in each.parts:
            _copy(txn, sink, each.grains, part)
    books = _Books(txn)
    for each in recuts:
        books.replace(each)
    books.close()


def _copy(txn: Transaction, sink: Sink, grains: Grains, part: Part) -> None:
    """Copy what is in use of the stripes that move; all of them where there is parity, which is right of all rows."""
    runs = [(part.first, part.last)] if grains.chunk.profile.parity else list(grains.used(part.first, part.last))
    for old, new in zip(grains.chunk.stripes, part.stripes, strict=True):
        if (old.devid, old.offset + part.first * grains.physical) == (new.devid, new.offset):
            continue
        device = txn.volume.devices[old.devid]
        for first, last in runs:
            at, left = first * grains.physical, grains.footprint(first, last)
            to = new.offset + at - part.first * grains.physical
            while left:
                data = device.pread(min(left, _AT_ONCE), old.offset + at)
                sink.pwrite(new.devid, to, data)
                at, to, left = at + len(data), to + len(data), left - len(data)


class _Books:
    """All that tells of chunks, while some are replaced."""

    def __init__(self, txn: Transaction) -> None:
        self._txn, self._volume = txn, txn.volume
        self._allocated: dict[int, int] = {}  # by devid, bytes by which what is allocated there grows
        flags = self._volume.superblock.compat_ro_flags
        self._has_space_tree = bool(flags & CompatRo.FREE_SPACE_TREE)
        own = flags & CompatRo.BLOCK_GROUP_TREE
        self._groups = txn.tree(TreeId.BLOCK_GROUP_TREE if own else TreeId.EXTENT_TREE)

    def replace(self, recut: Recut) -> None:
        """Let the parts stand for the chunk."""
        grains, mapped = recut.grains, recut.grains.chunk
        chunks, extents = self._txn.tree(TreeId.CHUNK_TREE), self._txn.tree(TreeId.DEV_TREE)
        chunk = Chunk.unpack(chunks.get(_chunk_key(mapped.logical)))
        group_key = Key(mapped.logical, ItemType.BLOCK_GROUP_ITEM, mapped.length)
        group = BlockGroupItem.unpack(self._groups.get(group_key))
        old = DevExtent(TreeId.CHUNK_TREE, FIRST_CHUNK_TREE_OBJECTID, mapped.logical, mapped.stripe_length, bytes(16))
        for stripe in mapped.stripes:
            key = Key(stripe.devid, ItemType.DEV_EXTENT, stripe.offset)
            old = DevExtent.unpack(extents.get(key))
            extents.delete(key)
            self._grow(stripe.devid, -old.length)
        chunks.delete(_chunk_key(mapped.logical))
        self._groups.delete(group_key)
        self._forget_free_space(mapped.logical, mapped.end)
        self._volume.chunk_map.remove(mapped.logical)  # from here on, no tree is read before the parts are there
        for part in recut.parts:
            logical, end = grains.start_of(part.first), grains.start_of(part.last)
            changed = chunk.replace(length=end - logical, stripes=part.stripes)
            chunks.put(_chunk_key(logical), changed.pack())
            made = self._volume.chunk_map.add(logical, changed)
            for stripe in part.stripes:
                extent = old.replace(chunk_offset=logical, length=made.stripe_length)
                extents.put(Key(stripe.devid, ItemType.DEV_EXTENT, stripe.offset), extent.pack())
                self._grow(stripe.devid, made.stripe_length)
            used = grains.extents_of(part.first, part.last)
            item = group.replace(used=sum(stop - start for start, stop in used))
            self._groups.put(Key(logical, ItemType.BLOCK_GROUP_ITEM, end - logical), item.pack())
            self._tell_free_space(logical, end, used)

    def _grow(self, devid: int, by: int) -> None:
        self._allocated[devid] = self._allocated.get(devid, 0) + by

    def _forget_free_space(self, start: int, end: int) -> None:
        if self._has_space_tree:
            tree = self._txn.tree(TreeId.FREE_SPACE_TREE)
            for key, _ in list(tree.items(Key(start, 0, 0), Key(end - 1, 255, U64_MAX))):
                tree.delete(key)

    def _tell_free_space(self, start: int, end: int, used: Iterable[Range]) -> None:
        if self._has_space_tree:
            record = SpaceRecord(start, end - start, self._volume.sectorsize)
            record.update(self._txn.tree(TreeId.FREE_SPACE_TREE), edges_between(start, end, used))

    def close(self) -> None:
        """Bring the items of devices and the array of the superblock up to date, and see all of it in the space."""
        chunks, volume = self._txn.tree(TreeId.CHUNK_TREE), self._volume
        for devid, by in self._allocated.items():
            key = Key(DEV_ITEMS_OBJECTID, ItemType.DEV_ITEM, devid)
            item = DevItem.unpack(chunks.get(key))
            chunks.put(key, item.replace(bytes_used=item.bytes_used + by).pack())
        array = b"".join(
            DiskKey(*_chunk_key(each.logical)).pack() + chunks.get(_chunk_key(each.logical))
            for each in volume.chunk_map
            if each.type & BlockGroup.SYSTEM
        )
        room = len(volume.superblock.sys_chunk_array)
        if len(array) > room:
            raise NoSpaceError(
                f"the superblock has room for {room} bytes of system chunks; these would take {len(array)}"
            )
        if not self._has_space_tree:
            drop_space_caches(self._txn)  # one of a block group that goes would stay for ever
        fields = {"sys_chunk_array": array.ljust(room, b"\0"), "sys_chunk_array_size": len(array)}
        volume.superblock = volume.superblock.replace(**fields)
        self._txn.space = Space(volume, self._txn.tree)


def edges_between(start: int, end: int, used: Iterable[Range]) -> set[int]:
    """Return where free space begins and ends in [start, end), of which the rising ranges *used* are not free."""
    edges: set[int] = set()
    toggle(edges, start, end)
    for first, last in used:
        toggle(edges, first, last)
    return edges


def _chunk_key(logical: int) -> Key:
    return Key(FIRST_CHUNK_TREE_OBJECTID, ItemType.CHUNK_ITEM, logical)
