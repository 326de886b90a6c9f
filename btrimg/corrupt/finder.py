"""From targets to what they name: items, blocks, superblock copies; and what references read there."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from btrimg.corrupt import leaf
from btrimg.corrupt.addresses import find_csum, parity_place
from btrimg.corrupt.assign import read_span
from btrimg.corrupt.cachefile import find_cache
from btrimg.corrupt.descent import Descent, Way
from btrimg.corrupt.places import in_block, in_payload, in_slot, in_superblock
from btrimg.corrupt.storage import Storage
from btrimg.corrupt.values import Values
from btrimg.errors import NotFoundError
from btrimg.named import NamedTuple
from btrimg.ondisk.blocks import Key
from btrimg.ondisk.constants import SUPERBLOCK_OFFSETS, SUPERBLOCK_SIZE, TreeId
from btrimg.ondisk.keynames import tree_id

if TYPE_CHECKING:
    from collections.abc import Iterator

    from btrimg.corrupt.cachefile import CacheFile
    from btrimg.corrupt.descent import Pattern
    from btrimg.corrupt.words import Marks, Target
    from btrimg.filesystem.image import Image
    from btrimg.filesystem.inode import Inode


class FoundItem(NamedTuple):
    """An item, or the leaf in which one would be inserted."""

    way: Way
    key: Key
    present: bool

    def slot_in(self, data: bytes) -> int:
        """Return the item's slot in a copy of its leaf; raise NotFoundError when it is not there."""
        keys = leaf.keys_of(data)
        if self.key not in keys:
            raise NotFoundError("there is no such item")
        return keys.index(self.key)


class SuperCopy(NamedTuple):
    """A copy of the superblock."""

    devid: int
    physical: int
    data: bytes


class Finder:
    """Finds targets in an opened image as edits have left it; paths are looked up in the image as it was."""

    def __init__(self, image: Image) -> None:
        self.image, self.volume = image, image.volume
        self.storage = Storage(image.volume)
        self.descent = Descent(image.volume, self.storage)
        self.values = Values(self.read)

    def read(self, target: Target, marks: Marks) -> int | bytes:
        """Return what *target* holds: a number, or bytes; of an address, a sector."""
        kind = target.kind
        if kind == "file":
            inode = self._inode(target.head)
            return inode.ino if target.key == "ino" else inode.subvolume.id
        if kind == "item":
            return self._read_item(target, marks)
        if kind == "block":
            data = self.copy_of(self.block(target).logical, marks)
            return read_span(data, in_block(data, target.steps))
        if kind == "super":
            data = next(self.superblocks(marks)).data
            return read_span(data, in_superblock(data, target.steps))
        if kind == "cache":
            cache = self.cache(target)
            return read_span(self.read_cache(cache, marks.mirror or 0), cache.place(target.steps))
        return self._read_address(target, marks)

    def _read_item(self, target: Target, marks: Marks) -> int | bytes:
        found = self.item(target)
        data = self.copy_of(found.way.logical, marks)
        slot = found.slot_in(data)
        if target.steps and target.steps[0].name == "slot":
            return read_span(data, in_slot(data, slot, target.steps[1:]))
        payload = leaf.payload_of(data, slot)
        if target.names == ("payload", "size"):
            return len(payload)
        return read_span(payload, in_payload(found.key, payload, target.steps))

    def _read_address(self, target: Target, marks: Marks) -> bytes:
        address, size = self.values.number(target.key), self.volume.sectorsize
        if target.kind == "device":
            return self.storage.draft.read(self.values.number(target.head), address, size)
        if target.kind == "csum-of":
            csum = find_csum(self.volume, self.descent, address)
            data = self.copy_of(csum.way.logical, marks)
            return leaf.payload_of(data, csum.slot_in(data))[csum.span.start : csum.span.end]
        if target.kind == "data":
            return self.storage.read(address, size, marks.mirror or 0)
        return self.storage.draft.read(*parity_place(self.storage, address, target.kind == "parity-q"), size)

    def copy_of(self, logical: int, marks: Marks) -> bytes:
        """Return a tree block: of the mirror that *marks* name, or the best copy."""
        if marks.mirror is None:
            return self.descent.block(logical)
        return self.storage.read(logical, self.volume.nodesize, marks.mirror)

    def _inode(self, path: str) -> Inode:
        return self.image.open(os.fsencode(path), follow=False)

    def _root(self, head: str) -> int:
        """Return where the tree that *head* names (a tree, log, log:SUBVOLUME, a path) has its root."""
        if head.startswith("/"):
            return self.descent.root_of(self._inode(head).subvolume.id)
        if head.startswith("log:"):
            return self.descent.root_of(0, log_of=self.values.number(head[len("log:") :], tree_id))
        return self.descent.root_of(TreeId.TREE_LOG if head == "log" else self.values.number(head, tree_id))

    def item(self, target: Target) -> FoundItem:
        """Return the item that *target* names; it need not be there if its key is whole.

        Raises NotFoundError when there is none, and none could be.
        """
        found = next(self.items(target), None)
        if found:
            return found
        pattern, index = self.key_parts(target)
        if None in pattern or index is not None:
            raise NotFoundError("there is no such item")
        whole = Key(*(part or 0 for part in pattern))
        return FoundItem(self.descent.way_to(self._root_of(target), whole), whole, present=False)

    def items(self, target: Target) -> Iterator[FoundItem]:
        """Yield the items whose keys fit what *target* names, in order."""
        pattern, index = self.key_parts(target)
        matches = self.descent.matches(self._root_of(target), pattern)
        if index is not None:
            several = list(matches)
            matches = iter(several[index : index + 1 or None]) if -len(several) <= index < len(several) else iter(())
        for way, data, slot in matches:
            yield FoundItem(way, leaf.keys_of(data)[slot], present=True)

    def key_parts(self, target: Target) -> tuple[Pattern, int | None]:
        """Return the parts of the key of an item, None for those left open, and the number of the one that is meant."""
        return self.values.key_parts(
            f"{self._inode(target.head).ino}.{target.key}" if target.head.startswith("/") else target.key
        )

    def tree_of(self, target: Target) -> int | None:
        """Return the id of the tree in which *target* names an item; None where it names a block to look in."""
        if "@" in target.head and not target.head.startswith("/"):
            return None
        if target.head.startswith("/"):
            return self._inode(target.head).subvolume.id
        if target.head == "log" or target.head.startswith("log:"):
            return TreeId.TREE_LOG
        return self.values.number(target.head, tree_id)

    def _root_of(self, target: Target) -> int:
        return self._root(target.head) if self.tree_of(target) is not None else self.block(target).logical

    def block(self, target: Target) -> Way:
        """Return the block that *target* names: block@LOGICAL, or TREE@LEVEL (TREE@root) on the way to its key."""
        name, _, where = target.head.rpartition("@")
        if name == "block":
            return Way(self.values.number(where))
        level = None if where == "root" else self.values.number(where)
        pattern = self.values.key_parts(target.key)[0] if target.key else (None, None, None)
        return self.descent.way_to(self._root(name), Key(*(part or 0 for part in pattern)), level)

    def cache(self, target: Target) -> CacheFile:
        """Return the space cache of the block group that *target* names; raise NotFoundError when it has none."""
        return find_cache(self.descent, self.volume.sectorsize, self.values.number(target.key))

    def read_cache(self, cache: CacheFile, copy: int) -> bytes:
        """Return what one copy of a space cache holds."""
        return b"".join(self.storage.read(logical, length, copy) for logical, length in cache.pieces)

    def superblocks(self, marks: Marks) -> Iterator[SuperCopy]:
        """Yield the copies of the superblock that *marks* choose; raise NotFoundError when there are none."""
        found = False
        for devid, device in sorted(self.volume.devices.items()):
            for mirror, offset in enumerate(SUPERBLOCK_OFFSETS):
                chosen = marks.devid in (None, devid) and marks.mirror in (None, mirror)
                if chosen and offset + SUPERBLOCK_SIZE <= device.size:
                    found = True
                    yield SuperCopy(devid, offset, self.storage.draft.read(devid, offset, SUPERBLOCK_SIZE))
        if not found:
            raise NotFoundError("there is no such copy of the superblock")
