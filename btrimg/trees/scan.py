"""Whole trees as columns: the bulk path. :mod:`tree` reads one tree key by key.

A :class:`Forest` reads any number of trees together, level by level. The pointers of all nodes of a level are made
unique first, so that every block is read, verified and decoded once, however many snapshots share it.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from btrimg.errors import BlockError
from btrimg.named import NamedTuple
from btrimg.ondisk.blocks import Header, Item
from btrimg.ondisk.constants import MAX_LEVEL, TreeId
from btrimg.trees.batches import KEY_BYTES, PROMISE, BatchReader, key_of, promises_of, ranges
from btrimg.trees.distinct import among
from btrimg.trees.leafbatch import LeafBatch

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from btrimg.trees.batches import BlockBatch, Ints, Keys, Report, Structs
    from btrimg.trees.block import BlockReader, Pointer

    Read = tuple[Keys, Ints, Structs]  # of some blocks: last keys, slots, Headers


class _Level(NamedTuple):
    """The pointers to one level of all trees, and the blocks that they lead to."""

    block: Ints  #: number of the block, per pointer
    first_key: Keys  #: promised, per pointer; empty where nothing is promised
    logical: NDArray[np.uint64]  #: per block
    last_key: Keys  #: per block; empty for one without items or that cannot be read
    children: Ints  #: slots per block, 0 for one that cannot be read
    first_child: Ints  #: per block, the number of its first pointer to the level below
    heads: Structs  #: Header per block, zeros for one that cannot be read

    def with_blocks(self, read: Sequence[Read]) -> _Level:
        """Return the level with what more of its blocks, in batches, turned out to hold."""
        known = self.last_key, self.children, self.heads
        last_key, count, heads = map(np.concatenate, zip(known, *read, strict=True))
        return self._replace(last_key=last_key, children=count, first_child=np.cumsum(count) - count, heads=heads)


class Forest:
    """Trees read together; *roots* are numbered from 0 in the order given.

    Of the nodes in *skipped*, by address, so many first pointers are not followed: a deletion has freed those blocks.
    A block of which no copy is what its parent promises is told to *bad* as a BlockError and skipped, and an item whose
    payload lies outside its leaf as an ItemError. A block whose keys reach into the next block's is skipped in that
    tree only, since another one may have another next block.
    """

    def __init__(
        self, blocks: BlockReader, roots: Sequence[Pointer], bad: Report, skipped: Mapping[int, int] | None = None
    ) -> None:
        self.roots = list(roots)
        self._bad, self._skipped = bad, skipped or {}
        self._nodesize = blocks.volume.nodesize
        self._reader = BatchReader(blocks)
        self._root_pointer = np.full(len(self.roots), -1, np.int64)
        self._levels: dict[int, _Level] = {}
        self._leaf_promises = self._read_nodes()
        #: number of the first leaf of a tree of files; all others come before it
        self.first_of_files = int(np.count_nonzero(self._leaf_promises["owner"] != TreeId.FS_TREE))

    def _read_nodes(self) -> Structs:
        """Read all levels but the leaves; return the promises of these."""
        for root in self.roots:
            if root.level >= MAX_LEVEL:
                detail = f"bad level {root.level}"
                self._bad(BlockError(root.logical, "level", detail, level=root.level, tree=root.owner))
        pointers = np.empty(0, PROMISE)
        for level in range(MAX_LEVEL - 1, 0, -1):
            promises = self._enter(level, pointers)
            below = [pointers[:0]]
            read: list[Read] = []
            for batch in self._reader.read(promises, level, partial(self._bad_block, level)):
                batch = self._without_skipped(batch)
                below.append(batch.children(promises[batch.first : batch.first + len(batch.rows)]))
                read.append((batch.last_keys(), batch.counts, batch.heads))
            self._levels[level] = self._levels[level].with_blocks(read)
            pointers = np.concatenate(below)
        return self._enter(0, pointers)

    def _without_skipped(self, batch: BlockBatch) -> BlockBatch:
        """Return *batch* without the pointers that are not to be followed."""
        here = [number for number, at in enumerate(batch.heads["bytenr"].tolist()) if at in self._skipped]
        if not here:
            return batch
        skipped = np.zeros(len(batch.counts), np.int64)
        skipped[here] = [self._skipped[at] for at in batch.heads["bytenr"][here].tolist()]
        skipped = np.minimum(skipped, batch.counts)
        starts = np.cumsum(batch.counts) - batch.counts
        counts = batch.counts - skipped
        return batch._replace(slots=batch.slots[ranges(starts + skipped, counts)], counts=counts)

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
        """Yield the items of all leaves in batches of bounded memory, each leaf once; to be called once.

        The leaves of a tree without files can be asked for when those up to ``first_of_files`` have come.
        """
        read: list[Read] = []
        for batch in self._reader.read(self._leaf_promises, 0, partial(self._bad_block, 0)):
            read.append((batch.last_keys(), batch.counts, batch.heads))
            if batch.first <= self.first_of_files <= batch.first + len(batch.rows):
                self._levels[0], read = self._levels[0].with_blocks(read), []
            yield self._leaf_batch(batch)
        self._levels[0] = self._levels[0].with_blocks(read)

    def _leaf_batch(self, batch: BlockBatch) -> LeafBatch:
        row = np.repeat(np.arange(len(batch.rows)), batch.counts)
        slots = batch.slots
        key_type = slots["key"]["type"].copy()
        offset, size = slots["offset"].astype(np.int64), slots["size"].astype(np.int64)
        items = LeafBatch(
            batch.first,
            len(batch.rows),
            batch.rows.reshape(-1),
            batch.heads,
            frozenset(np.flatnonzero(np.bincount(key_type)).tolist()),
            {},
            row + batch.first,
            slots["key"]["objectid"].copy(),
            key_type,
            slots["key"]["offset"].copy(),
            row * self._nodesize + Header.SIZE + offset,
            size,
        )
        inside = (offset + size <= self._nodesize - Header.SIZE) & (offset >= (batch.counts * Item.SIZE)[row])
        if inside.all():
            return items
        for item in np.flatnonzero(~inside).tolist():
            detail = f"its data [{offset[item]}, +{size[item]}) lies outside the data area"
            self._bad(items.error(item, detail, fault="layout"))
        return items.take(inside)

    def _bad_block(self, level: int, number: int, error: BlockError) -> None:
        """Tell of block *number* of a level of which no copy is good, with the first way that leads to it."""
        error.parent, error.tree = self._origin(level, int(np.argmax(self._levels[level].block == number)))
        self._bad(error)

    def _origin(self, level: int, pointer: int) -> tuple[int | None, int | None]:
        """Return the address of the node that a pointer to a level stands in, None for a root, and its tree.

        Of several ways to that node the first is taken.
        """
        nodes: list[int] = []
        while (above := self._levels.get(level + 1)) and pointer < above.children.sum():
            node = int(np.searchsorted(above.first_child, pointer, "right")) - 1
            nodes.append(int(above.logical[node]))
            level, pointer = level + 1, int(np.argmax(above.block == node))
        starts = zip(self.roots, self._root_pointer.tolist(), strict=True)
        tree = next(root.owner for root, at in starts if (root.level, at) == (level, pointer))
        return nodes[0] if nodes else None, tree

    @property
    def repaired(self) -> list[int]:
        """Return the addresses of the blocks of which the first copy is not good."""
        return self._reader.repaired

    def sound_at_first(self) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
        """Return address and generation of the blocks of which the first copy is sound, in order of address."""
        heads = np.concatenate([level.heads[["bytenr", "generation"]] for level in self._levels.values()])
        logical, rows = np.unique(heads["bytenr"], return_index=True)
        kept = ~among(logical, np.array([0, *self.repaired], np.uint64))  # 0 stands for what cannot be read
        return logical[kept], heads["generation"][rows[kept]]

    def heads(self, level: int) -> Structs:
        """Return the Header of every block of a level, in order of number; zeros for one that cannot be read.

        Those of level 0 are there when ``leaves`` has ended.
        """
        return self._levels[level].heads

    def addresses(self, level: int) -> NDArray[np.uint64]:
        """Return the address of every block of a level, in order of number, also of one that cannot be read."""
        return self._levels[level].logical

    def pointers(self, level: int) -> tuple[Ints, Ints]:
        """Return of every pointer in the nodes of a *level* above 0 the number of its node, and of its block below."""
        count = self._levels[level].children
        nodes = np.repeat(np.arange(len(count)), count)
        return nodes, self._levels[level - 1].block[: len(nodes)]

    def blocks_at(self, level: int, logical: NDArray[np.uint64]) -> tuple[Ints, Ints]:
        """Return the blocks of a level at some addresses: indexes into *logical*, and numbers of blocks.

        There are several of one address when it is promised in several ways, none where no block is.
        """
        order = np.argsort(self._levels[level].logical, kind="stable")
        ordered = self._levels[level].logical[order]
        first, last = (np.searchsorted(ordered, logical, side) for side in ("left", "right"))
        return np.repeat(np.arange(len(logical)), last - first), order[ranges(first, last - first)]

    def trees_of(self, level: int, blocks: Ints) -> tuple[Ints, Ints]:
        """Return the trees that some *blocks* of a level are part of: indexes into *blocks*, and numbers of roots.

        Goes up from pointer to pointer, so that it takes time for what is found and not for all trees.
        """
        indexes, numbers = [blocks[:0]], [blocks[:0]]
        index = np.arange(len(blocks))
        while len(blocks):
            roots = np.array([number for number, root in enumerate(self.roots) if root.level == level], np.int64)
            leads_to = self._levels[level].block[self._root_pointer[roots]]
            met, root = _joined(blocks, leads_to)
            indexes.append(index[met])
            numbers.append(roots[root])
            level += 1
            if level == MAX_LEVEL:
                break
            nodes, below = self.pointers(level)
            met, pointer = _joined(blocks, below)
            width = len(self._levels[level].children) + 1
            pairs = np.sort(index[met] * width + nodes[pointer])
            index, blocks = np.divmod(pairs[np.append(True, pairs[1:] != pairs[:-1])[: len(pairs)]], width)
        return np.concatenate(indexes), np.concatenate(numbers)

    def own_blocks(self, group: Ints) -> dict[int, int]:
        """Return how many blocks are in trees of one group only, by group; *group* has a number for each root."""
        found: dict[int, int] = {}
        low = high = group[:0]
        for level in range(MAX_LEVEL - 1, -1, -1):
            roots = [number for number, root in enumerate(self.roots) if root.level == level]
            logical, block = np.unique(self._levels[level].logical, return_inverse=True)
            number = block[self._levels[level].block]  # per pointer; a block can be promised in several ways
            least, most = np.full(len(logical), np.iinfo(np.int64).max), np.full(len(logical), -1)
            np.minimum.at(least, number, np.concatenate([low, group[roots]]))
            np.maximum.at(most, number, np.concatenate([high, group[roots]]))
            for each, count in zip(*np.unique(least[least == most], return_counts=True), strict=True):
                found[int(each)] = found.get(int(each), 0) + int(count)
            children = self._levels[level].children
            low, high = (np.repeat(each[block], children) for each in (least, most)) if level else (low, high)
        return found

    def leaves_of(self, root: int) -> Ints:
        """Return the numbers of the leaves of tree number *root* in key order; valid when ``leaves`` have come."""
        return dict(self.blocks_of(root)).get(0, np.empty(0, np.int64))

    def promised_leaves(self, root: int) -> Ints:
        """Return the numbers of the leaves that the nodes of tree number *root* lead to, also before they are read.

        Those of ``leaves_of`` are among them.
        """
        pointers = self._root_pointer[root : root + 1]
        if pointers[0] < 0:
            return pointers[:0]
        for level in range(self.roots[root].level, 0, -1):
            table = self._levels[level]
            blocks = self._below_next(table, pointers, root)
            pointers = ranges(table.first_child[blocks], table.children[blocks])
        return self._levels[0].block[pointers]

    def blocks_of(self, root: int) -> Iterator[tuple[int, Ints]]:
        """Yield each level of tree number *root*, from the top, and the numbers of its blocks in key order."""
        pointers = self._root_pointer[root : root + 1]
        if pointers[0] < 0:
            return
        for level in range(self.roots[root].level, -1, -1):
            table = self._levels[level]
            blocks = self._below_next(table, pointers, root)
            yield level, blocks
            if level:
                pointers = ranges(table.first_child[blocks], table.children[blocks])

    def _below_next(self, table: _Level, pointers: Ints, root: int) -> Ints:
        """Return the blocks of *pointers* without those whose keys reach the next pointer's first key."""
        blocks: Ints = table.block[pointers]
        reaches = table.last_key[blocks[:-1]] >= table.first_key[pointers[1:]]
        if not reaches.any():
            return blocks
        tree, level = self.roots[root].owner, next(level for level, each in self._levels.items() if each is table)
        for pointer, following in zip(pointers[:-1][reaches].tolist(), pointers[1:][reaches].tolist(), strict=True):
            block = table.block[pointer]
            logical, last, end = int(table.logical[block]), table.last_key[block], table.first_key[following]
            detail = f"last key {tuple(key_of(last))} is not below the next block's {tuple(key_of(end))}"
            parent, _ = self._origin(level, pointer)
            self._bad(BlockError(logical, "last-key", detail, level=level, tree=tree, parent=parent))
        kept: Ints = blocks[np.append(~reaches, True)]
        return kept


def _joined(left: Ints, right: Ints) -> tuple[Ints, Ints]:
    """Return the pairs of indexes at which values of *left* and *right* are equal."""
    order = np.argsort(right, kind="stable")
    first, last = (np.searchsorted(right[order], left, side) for side in ("left", "right"))
    return np.repeat(np.arange(len(left)), last - first), order[ranges(first, last - first)]
