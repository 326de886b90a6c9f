"""From a logical address back to who uses it, by a walk of all trees: for images whose extent tree cannot be read."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

import numpy as np

from btrimg.errors import CorruptError
from btrimg.filesystem.backrefs import Extent, Use
from btrimg.filesystem.columns import KINDS
from btrimg.filesystem.extents import OFFSET_MAX, ExtentRef, FileExtentRow
from btrimg.filesystem.forest import item_roots, superblock_roots

if TYPE_CHECKING:
    from collections.abc import Iterator

    from btrimg.filesystem.image import Image
    from btrimg.trees.block import Block


class BackScan:
    """Who uses which addresses, as :class:`btrimg.filesystem.backrefs.Backrefs` gives it, by reading everything once.

    What no readable tree uses counts as free. Data of trees that are no subvolumes is not found.
    """

    way = "scan"

    def __init__(self, image: Image) -> None:
        rows = image.extents()
        rows = rows.take(rows.extent_logical > 0)
        self._rows = rows.take(np.argsort(rows.extent_logical, kind="stable"))
        logical, first = np.unique(self._rows.extent_logical, return_index=True)
        self._trees = _trees_of_blocks(image)
        blocks = sorted(self._trees)
        self._start = np.concatenate([logical, np.array(blocks, np.int64)])
        self._length = np.concatenate(
            [self._rows.extent_length[first], np.full(len(blocks), image.volume.nodesize, np.int64)]
        )
        self._level = np.concatenate(
            [np.full(len(logical), -1, np.int64), np.array([self._trees[block][0] for block in blocks], np.int64)]
        )
        order = np.argsort(self._start, kind="stable")
        self._start, self._length, self._level = self._start[order], self._length[order], self._level[order]

    def extents(self, start: int, end: int) -> Iterator[Extent]:
        """Yield the extents that reach into logical addresses [start, end), in order."""
        first, stop = np.searchsorted(self._start, [start, end])
        for number in range(max(int(first) - 1, 0), int(stop)):
            level = int(self._level[number])
            extent = Extent(int(self._start[number]), int(self._length[number]), level if level >= 0 else None)
            if extent.logical + extent.length > start:
                yield extent

    def uses(self, extent: Extent) -> list[Use]:
        """Return every file extent, in every subvolume, that uses the data extent *extent*."""
        rows = self._rows
        first = int(np.searchsorted(rows.extent_logical, extent.logical, "left"))
        stop = int(np.searchsorted(rows.extent_logical, extent.logical, "right"))
        return [
            Use(
                int(rows.subvolume[at]),
                int(rows.inode[at]),
                FileExtentRow(
                    int(rows.offset[at]),
                    int(rows.length[at]),
                    KINDS[rows.kind[at]],
                    int(rows.compression[at]),
                    ExtentRef(
                        extent.logical,
                        int(rows.extent_length[at]),
                        int(rows.extent_offset[at]),
                        int(rows.ram_bytes[at]),
                        int(rows.generation[at]),
                    ),
                ),
            )
            for at in range(first, stop)
        ]

    def trees(self, block: Block) -> frozenset[int]:
        """Return the ids of all trees that the tree block *block* is part of."""
        return frozenset(self._trees[block.header.bytenr][1])


def _trees_of_blocks(image: Image) -> dict[int, tuple[int, set[int]]]:
    """Return the level and the trees of every tree block; leaves are known by their parents and not read."""
    found: dict[int, tuple[int, set[int]]] = defaultdict(lambda: (0, set()))
    for tree, root in dict.fromkeys((root.id, root.at) for root in (*superblock_roots(image), *item_roots(image))):
        pending = [root]
        while pending:
            at = pending.pop()
            found[at.logical] = (at.level, found[at.logical][1] | {tree})
            if at.level:
                try:
                    block = image.blocks.read(at)
                except CorruptError as error:
                    image.report(error)
                else:
                    pending += block.children(range(len(block)), at)
    return {logical: of for logical, of in found.items() if logical <= OFFSET_MAX}  # further on there is no chunk
