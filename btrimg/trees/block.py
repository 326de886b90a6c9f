"""Tree blocks: read from any good copy, and verified against what the parent promised.

Reading is verifying, as the kernel does it (fs/btrfs/disk-io.c ``btrfs_validate_extent_buffer`` and
``btrfs_verify_level_key``, fs/btrfs/tree-checker.c ``btrfs_check_eb_owner``). Beyond the kernel, the keys of a block
must stay below its right neighbour's first key, so that a hostile tree cannot reach one block twice and the time of a
walk is bounded by the blocks there are.
"""

from __future__ import annotations

import struct
from functools import partial
from operator import ge, itemgetter

from btrimg.errors import BlockError, BtrimgError, CorruptError, ItemError
from btrimg.named import NamedTuple
from btrimg.ondisk.blocks import Header, Item, Key, KeyPtr
from btrimg.ondisk.constants import MAX_LEVEL, TreeId

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Iterator

    from btrimg.volume.volume import Volume

#: Words for what may be wrong with a block, in the order in which it is looked for.
FAULTS = (
    *("unmapped", "unreadable", "csum", "bytenr", "fsid", "level", "nritems", "key-order"),
    *("generation", "owner", "first-key", "last-key"),
)
CACHED_BLOCKS = 256  #: 4 MiB of 16 KiB blocks: the upper levels of every tree that one command walks

_new_key: Callable[[tuple[int, ...]], Key] = partial(tuple.__new__, Key)
_key_fields = itemgetter(0, 1, 2)
_SLOTS = {0: struct.Struct("<QBQII"), 1: struct.Struct("<QBQQQ")}  # Item and KeyPtr, flattened


class Pointer(NamedTuple):
    """What a parent (a node, a root item or the superblock) promises of a tree block; None is no promise."""

    logical: int
    level: int
    generation: int | None = None
    owner: int | None = None
    first_key: tuple[int, ...] | None = None  #: as a slot holds it, compares with Key
    end_key: tuple[int, ...] | None = None  #: first key of the right neighbour: all keys are below it


class Fault(NamedTuple):
    """Why a block is refused."""

    kind: str  #: word of FAULTS
    detail: str  #: phrase, with what was found and expected


def is_subvolume(tree_id: int) -> bool:
    """Return whether *tree_id* is a tree of files (kernel ``is_fstree``); qgroup levels live in the top 16 bits."""
    return tree_id == TreeId.FS_TREE or TreeId.FIRST_FREE <= tree_id < 1 << 48


def keys_of(slots: Iterable[tuple[int, ...]]) -> list[Key]:
    """Return the keys of slots, without any Python for each: in a third of the time."""
    return list(map(_new_key, map(_key_fields, slots)))


class Block:
    """A verified tree block; slots are (objectid, type, offset, …) and sort as keys."""

    __slots__ = ("_entries", "_items", "data", "header", "slots")

    def __init__(self, header: Header, data: bytes) -> None:
        self.header, self.data = header, data
        self._items: tuple[list[Key], list[bytes]] | None = None
        self._entries: tuple[list[Key], list[tuple[int, int]]] | None = None
        layout = _SLOTS[min(header.level, 1)]
        end = Header.SIZE + header.nritems * layout.size
        self.slots: list[tuple[int, ...]] = list(layout.iter_unpack(memoryview(data)[Header.SIZE : end]))

    def __len__(self) -> int:
        return len(self.slots)

    def key(self, slot: int) -> Key:
        """Return the key in *slot*."""
        return Key._make(self.slots[slot][:3])

    def bounds(self, slot: int) -> range:
        """Return which bytes of ``data`` are the payload of the item in *slot* of a leaf; raises CorruptError."""
        *_, offset, size = self.slots[slot]
        start = Header.SIZE + offset
        if start + size > len(self.data) or start < Header.SIZE + len(self.slots) * Item.SIZE:
            self.payload(slot)  # which says what is wrong
        return range(start, start + size)

    def payload(self, slot: int) -> bytes:
        """Return the payload of the item in *slot* of a leaf.

        Raises CorruptError when the item points outside the block or into the slots.
        """
        *_, offset, size = self.slots[slot]
        start = Header.SIZE + offset
        if start + size > len(self.data) or start < Header.SIZE + len(self.slots) * Item.SIZE:
            detail = f"its data [{offset}, +{size}) lies outside the data area"
            raise ItemError(self.header.bytenr, self.key(slot), detail, fault="layout")
        return self.data[start : start + size]

    def items(self) -> tuple[list[Key], list[bytes]]:
        """Return all keys and payloads of a leaf, made at once and kept; raise as :meth:`payload` does."""
        if self._items is None:
            slots, data, size = self.slots, self.data, len(self.data) - Header.SIZE
            start, least = Header.SIZE, len(slots) * Item.SIZE
            for number, (_, _, _, offset, length) in enumerate(slots):
                if offset < least or offset + length > size:
                    self.payload(number)
            payloads = [data[start + offset : start + offset + length] for _, _, _, offset, length in slots]
            self._items = keys_of(slots), payloads
        return self._items

    def entries(self) -> tuple[list[Key], list[tuple[int, int]]]:
        """Return all keys of a node, and (logical, generation) of the children, made at once and kept."""
        if self._entries is None:
            slots = self.slots
            self._entries = keys_of(slots), [(slot[3], slot[4]) for slot in slots]
        return self._entries

    def child(self, slot: int, parent: Pointer) -> Pointer:
        """Return what the node promises of the child in *slot*; *parent* is the promise this node was read by."""
        here = self.slots[slot]
        end = self.slots[slot + 1][:3] if slot + 1 < len(self.slots) else parent.end_key
        return Pointer(here[3], self.header.level - 1, here[4], parent.owner, here[:3], end)

    def children(self, slots: range, parent: Pointer) -> Iterator[Pointer]:
        """Yield what the node promises of the children in *slots*."""
        for slot in slots:
            yield self.child(slot, parent)


class BlockReader:
    """Reads and verifies tree blocks of a volume, with a small cache; *fsids* are those that blocks may carry."""

    def __init__(self, volume: Volume, fsids: Container[bytes]) -> None:
        self.volume, self._fsids = volume, fsids
        self._cache: dict[int, tuple[Pointer, Block]] = {}
        self.blocks_read = 0  #: tree blocks that came from a device, good or bad

    def read(self, promise: Pointer) -> Block:
        """Return the block at ``promise.logical``, from the first copy that keeps the promise.

        Raises BlockError when no copy does.
        """
        cached = self._cache.pop(promise.logical, None)
        if cached is not None and (cached[0] == promise or fault_of_promise(cached[1], promise) is None):
            self._cache[promise.logical] = cached  # moved to the young end
            return cached[1]
        block = self._read(promise)
        if len(self._cache) >= CACHED_BLOCKS:
            del self._cache[next(iter(self._cache))]
        self._cache[promise.logical] = (promise, block)
        return block

    def forget(self) -> None:
        """Read again from now on what was read before: it may have been written over, by a like promise."""
        self._cache.clear()

    def _read(self, promise: Pointer) -> Block:
        volume, first_fault = self.volume, None
        fault = Fault("unreadable", "no device that holds it can be read")
        try:
            for data in volume.candidates(promise.logical, volume.nodesize):
                self.blocks_read += 1
                block = self.accept(data, promise)
                if isinstance(block, Block):
                    if first_fault:
                        volume.warn(f"tree block {promise.logical}: {first_fault.detail}; another copy is good")
                    return block
                fault, first_fault = block, first_fault or block
        except BtrimgError as error:
            fault = Fault("unmapped" if isinstance(error, CorruptError) else "unreadable", str(error))
        fault = first_fault or fault
        raise BlockError(promise.logical, *fault, level=promise.level, tree=promise.owner)

    def accept(self, data: bytes, promise: Pointer) -> Block | Fault:
        """Return the block in *data* if it is intact and what *promise* says, else why not."""
        csum = self.volume.csum
        header = Header.unpack(data)
        if header.csum[: csum.size] != csum.digest(memoryview(data)[32:]):
            return Fault("csum", f"bad checksum, found {header.csum[: csum.size].hex()}")
        if header.bytenr != promise.logical:
            return Fault("bytenr", f"claims to be block {header.bytenr}")
        if header.fsid not in self._fsids:
            return Fault("fsid", f"belongs to another filesystem, {header.fsid.hex()}")
        if header.level >= MAX_LEVEL:
            return Fault("level", f"bad level {header.level}")
        if header.level != promise.level:  # before slots are taken for what they are not
            return _differs("level", header.level, promise.level)
        slot_size = KeyPtr.SIZE if header.level else Item.SIZE
        if header.nritems > (len(data) - Header.SIZE) // slot_size:
            return Fault("nritems", f"bad nritems {header.nritems}")
        if header.level and not header.nritems:
            return Fault("nritems", "a node without pointers")
        block = Block(header, data)
        if any(map(ge, block.slots, block.slots[1:])):
            return Fault("key-order", "keys out of order")
        return fault_of_promise(block, promise) or block


def fault_of_promise(block: Block, promise: Pointer) -> Fault | None:
    """Return how *block* differs from what its parent promised, None if it does not."""
    header = block.header
    if header.level != promise.level:
        return _differs("level", header.level, promise.level)
    if promise.generation is not None and header.generation != promise.generation:
        return _differs("generation", header.generation, promise.generation)
    if promise.owner is not None and not _owner_fits(header.owner, promise.owner):
        return Fault("owner", f"owner is {header.owner}, it was reached from tree {promise.owner}")
    if promise.first_key is not None and (not block.slots or block.key(0) != promise.first_key):
        first = tuple(block.key(0)) if block.slots else "none"
        return Fault("first-key", f"first key is {first}, its parent says {tuple(promise.first_key)}")
    if promise.end_key is not None and block.slots and block.key(-1) >= promise.end_key:
        last = tuple(block.key(-1))
        return Fault("last-key", f"last key {last} is not below the next block's {tuple(promise.end_key)}")
    return None


def _differs(kind: str, found: int, expected: int) -> Fault:
    return Fault(kind, f"{kind} is {found}, its parent says {expected}")


def _owner_fits(owner: int, tree_id: int) -> bool:
    if tree_id == TreeId.TREE_RELOC:  # blocks are borrowed from the tree that is relocated
        return True
    return is_subvolume(owner) if is_subvolume(tree_id) else owner == tree_id
