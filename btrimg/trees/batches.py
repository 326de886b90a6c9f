"""Tree blocks in batches: read, verified and decoded together, as :mod:`block` does one by one.

What a parent promises of its children is a table here. The blocks of many promises are read in the order of
``BatchReader.unique``, in large reads and by a few threads, and judged by a few operations of numpy per batch. A block
that fails is read again by ``BlockReader``, copy by copy: what that accepts is the truth, and its reasons are the ones
reported.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from btrimg.errors import BlockError, CorruptError, DeviceError
from btrimg.named import NamedTuple
from btrimg.ondisk.blocks import Header, Item, Key, KeyPtr
from btrimg.ondisk.constants import CsumType, TreeId
from btrimg.ondisk.sealed import all_sealed
from btrimg.trees.ahead import ahead
from btrimg.trees.block import Pointer, is_subvolume
from btrimg.trees.distinct import among
from btrimg.volume.places import PlaceMap

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from btrimg.ondisk.record import Record
    from btrimg.trees.block import BlockReader
    from btrimg.volume.volume import Volume

    Report = Callable[[CorruptError], None]
    BlockReport = Callable[[int, BlockError], None]
    Ints = NDArray[np.int64]
    Truths = NDArray[np.bool_]
    Structs = NDArray[np.void]
    Keys = NDArray[np.bytes_]

BATCH_BYTES = 5 << 20  #: of tree blocks in one batch, of which each thread holds one

# A key as bytes that sort as keys do; and a promise, so that equal promises are equal bytes.
_SORTED_KEY = np.dtype([("objectid", ">u8"), ("type", "u1"), ("offset", ">u8")])
KEY_BYTES = np.dtype("S17")
PROMISE = np.dtype([("logical", ">u8"), ("generation", ">u8"), ("owner", ">u8"), ("known", "u1"), ("key", KEY_BYTES)])
_GENERATION, _OWNER, _FIRST_KEY = 1, 2, 4  # bits of "known": what is promised besides logical


def ranges(starts: Ints, counts: Ints) -> Ints:
    """Return the integers of all the ranges [start, start + count), one range after the other."""
    ends = np.cumsum(counts)
    numbers: Ints = np.arange(ends[-1] if len(ends) else 0) + np.repeat(starts - (ends - counts), counts)
    return numbers


def structs_at(data: NDArray[np.uint8], size: int, position: Ints) -> Structs:
    """Return the *size* bytes at every *position* of *data*, all of them inside."""
    if not len(position):
        return np.empty(0, f"V{size}")
    everywhere: Structs = np.ndarray((len(data) - size + 1,), f"V{size}", data, strides=(1,))
    return everywhere[position]


def records_at(data: NDArray[np.uint8], record: type[Record], position: Ints) -> Structs:
    """Return the fixed parts of the *record* at every byte *position* of *data*, all of them inside."""
    dtype = record.dtype()
    return structs_at(data, dtype.itemsize, position).view(dtype)


def whole(records: Structs) -> Structs:
    """Return *records* without their fields: so each is copied whole, and not field by field."""
    return records.view(f"V{records.itemsize}")


class BlockBatch(NamedTuple):
    """Some blocks of one level, and the slots of those that are what their parents promised."""

    first: int  #: number of the first block among all promises
    rows: NDArray[np.uint8]  #: the blocks, one a row; valid until the next batch is asked for
    slots: Structs  #: Item or KeyPtr, of all good blocks, one after the other
    counts: Ints  #: slots per block
    good: Truths
    heads: Structs  #: Header of every block, zeros for one that is not good

    def last_keys(self) -> Keys:
        """Return the last key of every block, as bytes that sort as keys do; empty for one without slots."""
        keys = np.zeros(len(self.rows), KEY_BYTES)
        full = np.flatnonzero(self.counts)
        keys[full] = _key_bytes(self.slots["key"][np.cumsum(self.counts)[full] - 1])
        return keys

    def children(self, promises: Structs) -> Structs:
        """Return what these nodes, read by *promises*, promise of their children."""
        parents = np.repeat(promises, self.counts)
        table = np.empty(len(self.slots), PROMISE)
        table["logical"], table["generation"] = self.slots["blockptr"], self.slots["generation"]
        table["owner"], table["known"] = parents["owner"], parents["known"] & _OWNER | _GENERATION | _FIRST_KEY
        table["key"] = _key_bytes(self.slots["key"])
        return table


def promises_of(pointers: Sequence[Pointer]) -> Structs:
    """Return *pointers* as a table of promises; their levels and end keys are not in it."""
    table = np.zeros(len(pointers), PROMISE)
    for row, pointer in zip(table, pointers, strict=True):
        row["logical"] = pointer.logical
        if pointer.generation is not None:
            row["generation"], row["known"] = pointer.generation, row["known"] | _GENERATION
        if pointer.owner not in (None, TreeId.TREE_RELOC):  # that one borrows the blocks of another tree
            row["owner"], row["known"] = _owner_class(pointer.owner), row["known"] | _OWNER
        if pointer.first_key is not None:
            parts = zip(pointer.first_key, (8, 1, 8), strict=True)
            row["key"], row["known"] = b"".join(n.to_bytes(size, "big") for n, size in parts), row["known"] | _FIRST_KEY
    return table


def key_of(key: bytes) -> Key:
    """Return the key of which *key* are the bytes, of KEY_BYTES, which numpy gives without zeros at their end."""
    key = key.ljust(KEY_BYTES.itemsize, b"\0")
    return Key(*(int.from_bytes(part, "big") for part in (key[:8], key[8:9], key[9:])))


def _pointer(promise: np.void, level: int) -> Pointer:
    known = int(promise["known"])
    return Pointer(
        int(promise["logical"]),
        level,
        int(promise["generation"]) if known & _GENERATION else None,
        int(promise["owner"]) if known & _OWNER else None,
        key_of(promise["key"]) if known & _FIRST_KEY else None,
    )


class BatchReader:
    """Reads the blocks of many promises."""

    def __init__(self, blocks: BlockReader) -> None:
        self._blocks, self._volume = blocks, blocks.volume
        self._nodesize = blocks.volume.nodesize
        self._places = PlaceMap(blocks.volume.chunk_map)
        self.repaired: list[int] = []  #: addresses of the blocks that were read of which the first copy is not good

    def unique(self, pointers: Structs) -> tuple[Structs, Ints]:
        """Return the different promises, and the number of each pointer's among them.

        Those of trees of files come last; in both parts they are in order of device offset.
        """
        whole = np.ascontiguousarray(pointers).view(f"S{PROMISE.itemsize}")
        _, index, inverse = np.unique(whole, return_index=True, return_inverse=True)
        promises = pointers[index]
        places = self._places.locate(promises["logical"].astype(np.uint64))
        order = np.lexsort((places.physical[0], places.devid[0], promises["owner"] == TreeId.FS_TREE))
        number = np.empty(len(order), np.int64)
        number[order] = np.arange(len(order))
        return promises[order], number[inverse]

    def read(self, promises: Structs, level: int, bad: BlockReport) -> Iterator[BlockBatch]:
        """Yield the blocks of *promises*, all of one *level*, in batches of bounded memory.

        A block of which no copy is good is told to *bad* with its number among *promises*.
        """
        step = max(1, BATCH_BYTES // self._nodesize)

        def load(start: int, buffer: NDArray[np.uint8]) -> BlockBatch:
            return self._load(start, promises[start : start + step], level, buffer)

        def new_buffer() -> NDArray[np.uint8]:
            return np.empty((min(step, len(promises)), self._nodesize), np.uint8)

        for start, batch in ahead(load, range(0, len(promises), step), new_buffer):
            self._blocks.blocks_read += len(batch.rows)
            if batch.good.all():
                yield batch
            else:
                yield self._repair(batch, promises[start : start + step], level, bad)

    def _load(self, first: int, promises: Structs, level: int, buffer: NDArray[np.uint8]) -> BlockBatch:
        """Read the blocks of *promises* into *buffer*, what lies side by side at once, and judge them."""
        rows = buffer[: len(promises)]
        places = self._places.locate(promises["logical"].astype(np.uint64))
        wanted = places.contiguous >= self._nodesize
        readable = fill(self._volume, rows, places.devid[0], places.physical[0], wanted)
        return self._judge(first, rows, promises, level, readable)

    def judge(
        self, rows: NDArray[np.uint8], logical: Ints, generation: NDArray[np.uint64], level: int, readable: Truths
    ) -> BlockBatch:
        """Judge *rows* that were read somewhere as the blocks at *logical* of one *level*; no more is promised."""
        promises = np.zeros(len(rows), PROMISE)
        promises["logical"], promises["generation"], promises["known"] = logical, generation, _GENERATION
        return self._judge(0, rows, promises, level, readable)

    def _judge(
        self, first: int, rows: NDArray[np.uint8], promises: Structs, level: int, readable: Truths
    ) -> BlockBatch:
        """Judge blocks as ``BlockReader.accept`` does, but for their end keys, which depend on the tree."""
        heads = heads_of(rows)
        good = readable & sealed(self._volume, rows, heads)
        good &= heads["bytenr"] == promises["logical"]
        good &= heads["level"] == level
        capacity = (self._nodesize - Header.SIZE) // (KeyPtr if level else Item).SIZE
        good &= (heads["nritems"] <= capacity) & (heads["nritems"] >= min(level, 1))
        known = promises["known"]
        good &= (heads["generation"] == promises["generation"]) | (known & _GENERATION == 0)
        good &= (_owner_classes(heads["owner"]) == promises["owner"]) | (known & _OWNER == 0)
        batch = _decode(first, rows, heads, level, good)
        keys, ends = batch.slots["key"], np.cumsum(batch.counts)
        unordered = np.flatnonzero(~_ascending(keys)) + 1
        unordered = unordered[~among(unordered, ends)]  # from one block to the next there is no order
        good[np.searchsorted(ends, unordered, "right")] = False
        full = np.flatnonzero(batch.counts)
        first_keys = np.zeros(len(rows), KEY_BYTES)
        first_keys[full] = _key_bytes(keys[(ends - batch.counts)[full]])
        good &= (known & _FIRST_KEY == 0) | ((first_keys == promises["key"]) & (batch.counts > 0))
        return batch

    def _repair(self, batch: BlockBatch, promises: Structs, level: int, bad: BlockReport) -> BlockBatch:
        """Return *batch* with the blocks that are not good taken from other copies, where there are any."""
        for number in np.flatnonzero(~batch.good).tolist():
            self.repaired.append(int(promises["logical"][number]))
            try:
                block = self._blocks.read(_pointer(promises[number], level))
            except BlockError as error:
                bad(batch.first + number, error)
            else:
                batch.rows[number] = np.frombuffer(block.data, np.uint8)
                batch.good[number] = True
        heads = heads_of(batch.rows)
        heads[~batch.good] = np.zeros((), heads.dtype)
        return _decode(batch.first, batch.rows, heads, level, batch.good)


def fill(volume: Volume, rows: NDArray[np.uint8], devid: NDArray[np.uint64], physical: Ints, wanted: Truths) -> Truths:
    """Read those of *rows* that are *wanted* from their places, what lies side by side at once; return which it got."""
    follows = (devid[1:] == devid[:-1]) & (physical[1:] == physical[:-1] + rows.shape[1])
    breaks = np.flatnonzero(~(follows & wanted[1:] & wanted[:-1])) + 1
    got = wanted.copy()
    for start, end in pairwise([0, *breaks.tolist(), len(rows)]):
        device = volume.devices.get(int(devid[start]))
        if device is None or not wanted[start]:
            got[start:end] = False
            continue
        try:
            device.pread_into(rows[start:end].data, int(physical[start]))
        except DeviceError:
            for row in range(start, end):  # some of them may be there
                try:
                    device.pread_into(rows[row].data, int(physical[row]))
                except DeviceError:
                    got[row] = False
    return got


def sealed(volume: Volume, rows: NDArray[np.uint8], heads: Structs) -> Truths:
    """Return which blocks have the right checksum and belong to the filesystem."""
    ours = np.fromiter(map(volume.fsids.__contains__, heads["fsid"].tolist()), np.bool_, len(rows))
    if volume.superblock.csum_type == CsumType.CRC32C and all_sealed(rows):
        return ours
    size = volume.csum.size
    computed = volume.csum.digests(rows[:, 32:])
    stored = rows[:, :size].tobytes()
    found: Truths = ours & (np.frombuffer(computed, f"V{size}") == np.frombuffer(stored, f"V{size}"))
    return found


def heads_of(rows: NDArray[np.uint8]) -> Structs:
    """Return the Header of every block."""
    return rows[:, : Header.SIZE].copy().view(Header.dtype())[:, 0]


def _decode(first: int, rows: NDArray[np.uint8], heads: Structs, level: int, good: Truths) -> BlockBatch:
    """Return the slots of the blocks that are *good* so far."""
    counts = np.where(good, heads["nritems"], 0).astype(np.int64)
    slot = KeyPtr if level else Item
    ends = (Header.SIZE + counts * slot.SIZE).tolist()
    # Those of a block are one piece: so they are copied in a third of the time that it takes one by one.
    slots = [rows[:0, 0], *(row[Header.SIZE : end] for row, end in zip(rows, ends, strict=True))]
    return BlockBatch(first, rows, np.concatenate(slots).view(slot.dtype()), counts, good, heads)


def _key_bytes(keys: Structs) -> Keys:
    """Return disk keys as bytes that sort as the keys do."""
    swapped = np.empty(len(keys), _SORTED_KEY)
    for name in _SORTED_KEY.names or ():
        swapped[name] = keys[name]
    return swapped.view(KEY_BYTES)


def _ascending(keys: Structs) -> Truths:
    """Return for every key but the last whether the next one is greater."""
    objectid, key_type, offset = keys["objectid"].copy(), keys["type"].copy(), keys["offset"].copy()
    equal = objectid[:-1] == objectid[1:]
    above: Truths = objectid[:-1] < objectid[1:]
    above |= equal & (key_type[:-1] < key_type[1:])
    above |= equal & (key_type[:-1] == key_type[1:]) & (offset[:-1] < offset[1:])
    return above


def _owner_classes(owners: NDArray[Any]) -> NDArray[np.uint64]:
    """Return *owners* with one number for all trees of files, since these share blocks."""
    return np.fromiter(map(_owner_class, owners.tolist()), np.uint64, len(owners))


def _owner_class(owner: int | None) -> int:
    return TreeId.FS_TREE if owner is None or is_subvolume(owner) else owner
