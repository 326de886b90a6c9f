"""What log trees take: their blocks, and data that were written after the last commit and that only they know.

The extent tree does not know these until the log is replayed (fs/btrfs/tree-log.c ``replay_one_extent``): for it they
are free.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING

from btrimg.errors import CorruptError, UnsupportedError
from btrimg.filesystem.backrefs import Extent, Use
from btrimg.filesystem.extents import row_of_item
from btrimg.filesystem.forest import item_roots, superblock_roots
from btrimg.ondisk.constants import ItemType, TreeId

if TYPE_CHECKING:
    from collections.abc import Iterator

    from btrimg.filesystem.forest import Root
    from btrimg.filesystem.image import Image
    from btrimg.trees.block import Block


class LogTrees:
    """The extents of log trees and their uses, as :class:`btrimg.filesystem.backrefs.Backrefs` gives them.

    What cannot be read is reported to *image* and left out. Extents that lie on another one are, too.
    """

    way = "log"

    def __init__(self, image: Image) -> None:
        self._image = image
        self._uses: dict[int, list[Use]] = {}  # by address of the extent
        found: dict[int, Extent] = {}
        for root in (*superblock_roots(image), *item_roots(image)):
            if root.id == TreeId.TREE_LOG:
                for extent in self._extents(root):
                    found.setdefault(extent.logical, extent)
        self._found: list[Extent] = []
        end = 0
        for logical in sorted(found):
            if logical >= end:
                self._found.append(found[logical])
                end = logical + found[logical].length
        self._starts = [extent.logical for extent in self._found]

    def _extents(self, root: Root) -> Iterator[Extent]:
        """Yield the blocks of one tree, and the extents of the file extents in it."""
        pending, nodesize = [root.at], self._image.volume.nodesize
        while pending:
            at = pending.pop()
            try:
                block = self._image.blocks.read(at)
            except CorruptError as error:
                self._image.report(error)
                continue
            yield Extent(at.logical, nodesize, at.level, block.header.generation)
            if at.level:
                pending += block.children(range(len(block)), at)
            else:
                yield from self._data(block, root.key.offset if root.key else 0)

    def _data(self, leaf: Block, subvolume: int) -> Iterator[Extent]:
        for slot in range(len(leaf)):
            key = leaf.key(slot)
            if key.type != ItemType.EXTENT_DATA:
                continue
            try:
                row = row_of_item(key, leaf.payload(slot))
            except (CorruptError, UnsupportedError) as error:
                self._image.report(CorruptError(str(error)))
                continue
            if row.extent:
                self._uses.setdefault(row.extent.logical, []).append(Use(subvolume, key.objectid, row))
                yield Extent(row.extent.logical, row.extent.length, None, row.extent.generation)

    def ranges(self) -> tuple[list[int], list[int]]:
        """Return starts and ends of all extents, in order."""
        return self._starts, [extent.logical + extent.length for extent in self._found]

    def extents(self, start: int, end: int) -> Iterator[Extent]:
        """Yield the extents that reach into logical addresses [start, end), in order."""
        for number in range(max(bisect_right(self._starts, start) - 1, 0), len(self._found)):
            extent = self._found[number]
            if extent.logical >= end:
                return
            if extent.logical + extent.length > start:
                yield extent

    def uses(self, extent: Extent) -> list[Use]:
        """Return the logged file extents that use the data extent *extent*."""
        return sorted(self._uses.get(extent.logical, []), key=lambda use: (use.tree, use.ino, use.row.offset))

    def trees(self, _block: Block) -> frozenset[int]:
        """Return the id that all log trees have."""
        return frozenset({int(TreeId.TREE_LOG)})
