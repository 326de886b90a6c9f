"""Whole trees as columns: the bulk path. :mod:`tree` reads one tree key by key.

A :class:`Forest` reads any number of trees together, level by level. The pointers of all nodes of a level are made
unique first, so that every block is read, verified and decoded once, however many snapshots share it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from btrimg.errors import BlockError, CorruptError
from btrimg.ondisk.blocks import Header, Item
from btrimg.ondisk.constants import MAX_LEVEL
from btrimg.trees.batches import KEY_BYTES, PROMISE, BatchReader, promises_of, ranges, records_at

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from btrimg.ondisk.blocks import Key
    from btrimg.ondisk.record import Record
    from btrimg.trees.batches import BlockBatch, Ints, Keys, Report, Structs
    from btrimg.trees.block import BlockReader, Pointer


class LeafBatch(NamedTuple):
    """The items of some leaves as columns, in key order within each leaf."""

    first_leaf: int  #: number of the first leaf; they are numbered in the order in which batches come
    leaves: int  #: how many there are, those without items too
    data: NDArray[np.uint8]  #: the leaves' bytes, valid until the next batch is asked for
    leaf: Ints  #: number of the item's leaf
    objectid: NDArray[np.uint64]
    key_type: NDArray[np.uint8]
    offset: NDArray[np.uint64]  #: of the key
    position: Ints  #: of the payload in *data*
    size: Ints  #: of the payload, in bytes

    def of_type(self, *key_types: int) -> LeafBatch:
        """Return the items of one or a few types."""
        kept = self.key_type == key_types[0]
        for key_type in key_types[1:]:
            kept |= self.key_type == key_type
        return self.take(np.flatnonzero(kept))

    def take(self, kept: NDArray[Any]) -> LeafBatch:
        """Return some of the items: *kept* holds indexes or a truth value for each."""
        return LeafBatch(*self[:3], *(column[kept] for column in self[3:]))

    def records(self, record: type[Record]) -> Structs:
        """Return the fixed part of the *record* at the start of every payload, each large enough."""
        return records_at(self.data, record, self.position)


def leaf_of(items: Iterable[tuple[Key, bytes]], number: int) -> LeafBatch:
    """Return a batch of one leaf, number *number*, that holds *items* and is on no disk.

    Its data have a byte even when no payload has: readers index byte 0 in the place of one that is not there.
    """
    keys, payloads = [], []
    for key, payload in items:
        keys.append(key)
        payloads.append(payload)
    size = np.array([len(payload) for payload in payloads], np.int64)
    return LeafBatch(
        number,
        1,
        np.frombuffer(b"".join(payloads) or b"\0", np.uint8),
        np.full(len(keys), number, np.int64),
        np.array([key.objectid for key in keys], np.uint64),
        np.array([key.type for key in keys], np.uint8),
        np.array([key.offset for key in keys], np.uint64),
        np.cumsum(size) - size,
        size,
    )


class _Level(NamedTuple):
    """The pointers to one level of all trees, and the blocks that they lead to."""

    block: Ints  #: number of the block, per pointer
    first_key: Keys  #: promised, per pointer; empty where nothing is promised
    logical: NDArray[np.uint64]  #: per block
    last_key: Keys  #: per block; empty for one without items or that cannot be read
    children: Ints  #: slots per block, 0 for one that cannot be read
    first_child: Ints  #: per block, the number of its first pointer to the level below
    heads: Structs  #: Header per block, zeros for one that cannot be read

    def with_blocks(self, last_key: Sequence[Keys], children: Sequence[Ints], heads: Sequence[Structs]) -> _Level:
        """Return the level with what its blocks, in batches, turned out to hold."""
        count = np.concatenate([self.children, *children])
        return self._replace(
            last_key=np.concatenate([self.last_key, *last_key]),
            children=count,
            first_child=np.cumsum(count) - count,
            heads=np.concatenate([self.heads, *heads]),
        )


class Forest:
    """Trees read together; *roots* are numbered from 0 in the order given.

    A block of which no copy is what its parent promises is told to *bad* as a BlockError and skipped, and an item whose
    payload lies outside its leaf as a CorruptError. A block whose keys reach into the next block's is skipped in that
    tree only, since another one may have another next block.
    """

    def __init__(self, blocks: BlockReader, roots: Sequence[Pointer], bad: Report) -> None:
        self.roots = list(roots)
        self._bad = bad
        self._nodesize = blocks.volume.nodesize
        self._reader = BatchReader(blocks, bad)
        self._root_pointer = np.full(len(self.roots), -1, np.int64)
        self._levels: dict[int, _Level] = {}
        self._leaf_promises = self._read_nodes()

    def _read_nodes(self) -> Structs:
        """Read all levels but the leaves; return the promises of these."""
        for root in self.roots:
            if root.level >= MAX_LEVEL:
                self._bad(BlockError(f"tree block {root.logical}: bad level {root.level}"))
        pointers = np.empty(0, PROMISE)
        for level in range(MAX_LEVEL - 1, 0, -1):
            promises = self._enter(level, pointers)
            below, last_keys, counts, heads = [pointers[:0]], [], [], []
            for batch in self._reader.read(promises, level):
                below.append(batch.children(promises[batch.first : batch.first + len(batch.rows)]))
                last_keys.append(batch.last_keys())
                counts.append(batch.counts)
                heads.append(batch.heads)
            self._levels[level] = self._levels[level].with_blocks(last_keys, counts, heads)
            pointers = np.concatenate(below)
        return self._enter(0, pointers)

    def _enter(self, level: int, pointers: Structs) -> Structs:
        """Begin a level with the *pointers* from above and the roots that are there; return the promises to read."""
        here = [number for number, root in enumerate(self.roots) if root.level == level]
        self._root_pointer[here] = np.arange(len(pointers), len(pointers) + len(here))
        pointers = np.concatenate([pointers, promises_of([self.roots[number] for number in here])])
        promises, block = self._reader.unique(pointers)
        none = np.empty(0, np.int64)
        self._levels[level] = _Level(
            block=block,
            first_key=pointers["key"],
            logical=promises["logical"].astype(np.uint64),
            last_key=np.empty(0, KEY_BYTES),
            children=none,
            first_child=none,
            heads=np.empty(0, Header.dtype()),
        )
        return promises

    def leaves(self) -> Iterator[LeafBatch]:
        """Yield the items of all leaves in batches of bounded memory, each leaf once; to be called once."""
        last_keys, counts, heads = [], [], []
        for batch in self._reader.read(self._leaf_promises, 0):
            last_keys.append(batch.last_keys())
            counts.append(batch.counts)
            heads.append(batch.heads)
            yield self._leaf_batch(batch)
        self._levels[0] = self._levels[0].with_blocks(last_keys, counts, heads)

    def _leaf_batch(self, batch: BlockBatch) -> LeafBatch:
        row = np.repeat(np.arange(len(batch.rows)), batch.counts)
        slots = batch.slots
        offset, size = slots["offset"].astype(np.int64), slots["size"].astype(np.int64)
        items = LeafBatch(
            batch.first,
            len(batch.rows),
            batch.rows.reshape(-1),
            row + batch.first,
            slots["key"]["objectid"].copy(),
            slots["key"]["type"].copy(),
            slots["key"]["offset"].copy(),
            row * self._nodesize + Header.SIZE + offset,
            size,
        )
        inside = (offset + size <= self._nodesize - Header.SIZE) & (offset >= (batch.counts * Item.SIZE)[row])
        if inside.all():
            return items
        for item in np.flatnonzero(~inside).tolist():
            where = f"leaf {self._levels[0].logical[items.leaf[item]]}"
            self._bad(CorruptError(f"{where}: item data [{offset[item]}, +{size[item]}) lies outside the data area"))
        return items.take(inside)

    def heads(self, level: int) -> Structs:
        """Return the Header of every block of a level, in order of number; zeros for one that cannot be read.

        Those of level 0 are there when ``leaves`` has ended.
        """
        return self._levels[level].heads

    def leaves_of(self, root: int) -> Ints:
        """Return the numbers of the leaves of tree number *root* in key order; valid when ``leaves`` has ended."""
        pointers = self._root_pointer[root : root + 1]
        if pointers[0] < 0:
            return np.empty(0, np.int64)
        for level in range(self.roots[root].level, 0, -1):
            table = self._levels[level]
            blocks = self._below_next(table, pointers, root)
            pointers = ranges(table.first_child[blocks], table.children[blocks])
        return self._below_next(self._levels[0], pointers, root)

    def _below_next(self, table: _Level, pointers: Ints, root: int) -> Ints:
        """Return the blocks of *pointers* without those whose keys reach the next pointer's first key."""
        blocks: Ints = table.block[pointers]
        reaches = table.last_key[blocks[:-1]] >= table.first_key[pointers[1:]]
        if not reaches.any():
            return blocks
        for logical in table.logical[blocks[:-1][reaches]].tolist():
            owner = self.roots[root].owner
            self._bad(BlockError(f"tree block {logical}: its last key is not below the next block's in tree {owner}"))
        kept: Ints = blocks[np.append(~reaches, True)]
        return kept
