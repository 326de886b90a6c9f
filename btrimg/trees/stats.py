"""The shape of one tree, and how far apart on disk what is read one after the other lies.

A seek is a step from one block to another that does not follow it in the logical space; steps go from a node to its
first child and from child to child. A cluster is what is read without a seek, where that is more than one block and a
seek ends it. These are the terms of ``btrfs inspect-internal tree-stats`` (btrfs-progs 6.19, cmds/inspect-tree-stats.c
``walk_nodes``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from btrimg.named import NamedTuple
from btrimg.ondisk.blocks import Header
from btrimg.ondisk.constants import FileExtentType, ItemType
from btrimg.ondisk.extents import FileExtentInline
from btrimg.trees.batches import BatchReader, promises_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from btrimg.trees.batches import BlockBatch, Report, Structs
    from btrimg.trees.block import BlockReader, Pointer

    Ints = NDArray[np.int64]

_TYPE_AT = FileExtentInline.SIZE - 1  # the type of a file extent, in its payload


class TreeStats(NamedTuple):
    """The shape of one tree; sizes and distances in bytes, addresses logical."""

    nodesize: int
    nodes: tuple[int, ...]  #: blocks on each level, from the leaves up
    inline_bytes: int  #: data inside the tree; 0 unless asked for
    seeks: tuple[tuple[int, int], ...]  #: (distance, how often), in order of distance
    forward_seeks: int
    clusters: tuple[tuple[int, int], ...]  #: (size, how often), in order of size
    lowest: int  #: address of a block
    highest: int


def tree_stats(blocks: BlockReader, root: Pointer, bad: Report, *, inline: bool) -> TreeStats:
    """Return the statistics of the tree at *root*; with *inline*, which reads the leaves, those of inline data too.

    Blocks that cannot be read are told to *bad* and not counted, but the steps to them are. A block that a damaged tree
    leads to twice counts once.
    """
    reader = BatchReader(blocks)
    walk = _Walk(blocks.volume.nodesize, root.logical)
    pointers = promises_of([root])
    nodes: list[int] = []
    inline_bytes = 0
    for level in range(root.level, -1, -1):
        promises, _ = reader.unique(pointers)
        if not level and not inline:
            nodes.append(len(promises))
            break
        below, good = [pointers[:0]], 0
        for batch in reader.read(promises, level, lambda _, error: bad(error)):
            good += int(batch.good.sum())
            if level:
                parents = promises[batch.first : batch.first + len(batch.rows)]
                below.append(batch.children(parents))
                walk.step(_addresses(parents), batch.counts, _addresses(below[-1]))
            else:
                inline_bytes += _inline_bytes(batch)
        nodes.append(good)
        pointers = np.concatenate(below)
    return TreeStats(
        walk.nodesize,
        tuple(reversed(nodes)),
        inline_bytes,
        _histogram(walk.distances),
        walk.forward,
        _histogram(walk.clusters),
        walk.lowest,
        walk.highest,
    )


class _Walk:
    """What the steps through a tree add up to."""

    def __init__(self, nodesize: int, root: int) -> None:
        self.nodesize = nodesize
        self.distances: list[Ints] = []
        self.clusters: list[Ints] = []
        self.forward = 0
        self.lowest = self.highest = root

    def step(self, parents: Ints, counts: Ints, children: Ints) -> None:
        """Go from each of *parents* to its children, *counts* of them."""
        if not len(children):
            return
        self.lowest, self.highest = min(self.lowest, int(children.min())), max(self.highest, int(children.max()))
        full = counts > 0
        first = (np.cumsum(counts) - counts)[full]  # numbers of first children
        before = np.append(children[:1], children[:-1])
        before[first] = parents[full]
        seeks = np.flatnonzero(children != before + self.nodesize)
        self.distances.append(np.abs(children - before - self.nodesize)[seeks])
        self.forward += int((before < children)[seeks].sum())
        own_first = np.repeat(first, counts[full])[seeks]
        steps = seeks - np.maximum(np.append(0, seeks[:-1] + 1), own_first) if len(seeks) else seeks
        self.clusters.append((steps[steps > 0] + 1) * self.nodesize)


def _addresses(promises: Structs) -> Ints:
    return promises["logical"].astype(np.int64)


def _histogram(parts: list[Ints]) -> tuple[tuple[int, int], ...]:
    values, counts = np.unique(np.concatenate([np.empty(0, np.int64), *parts]), return_counts=True)
    return tuple(zip(values.tolist(), counts.tolist(), strict=True))


def _inline_bytes(leaves: BlockBatch) -> int:
    """Return the bytes of inline data in *leaves*, as stored."""
    slots = leaves.slots
    nodesize = leaves.rows.shape[1]
    start = np.repeat(np.arange(len(leaves.rows)) * nodesize, leaves.counts) + Header.SIZE
    offset, size = slots["offset"].astype(np.int64), slots["size"].astype(np.int64)
    kept = (slots["key"]["type"] == ItemType.EXTENT_DATA) & (size > _TYPE_AT)
    kept &= offset + size <= nodesize - Header.SIZE
    position, size = (start + offset)[kept], size[kept]
    inline = leaves.rows.reshape(-1)[position + _TYPE_AT] == FileExtentType.INLINE
    return int((size[inline] - FileExtentInline.SIZE).sum())
