"""The leaves of all subvolumes, read once however many snapshots share them, and which subvolume is made of which."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from btrimg.errors import CorruptError
from btrimg.filesystem import namei
from btrimg.filesystem.treepaths import find
from btrimg.ondisk.blocks import KEY_MAX, KEY_MIN
from btrimg.trees.leafbatch import leaf_of
from btrimg.trees.overlay import OverlayTree
from btrimg.trees.scan import Forest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

    from btrimg.filesystem.image import Image
    from btrimg.filesystem.leafrows import LeafTable
    from btrimg.ondisk.blocks import Key
    from btrimg.trees.block import Pointer
    from btrimg.trees.leafbatch import LeafBatch
    from btrimg.trees.tree import Report

    Ints = NDArray[np.int64]
    Unsigned = NDArray[np.uint64]
    Table = LeafTable[Any]  # of rows with an ``inode``


class FileTrees:
    """All subvolumes as one forest, and behind them the trees of *further* roots.

    What cannot be read is told to *bad*, by default the image. *skipped* are pointers that are not followed, as of
    ``Forest``.
    """

    def __init__(
        self, image: Image, *further: Pointer, bad: Report | None = None, skipped: Mapping[int, int] | None = None
    ) -> None:
        #: in order of id, without those whose deletion has begun to free blocks
        self.subvolumes = [
            kept for kept in image.subvolumes() if kept.root.refs or not kept.root.drop_progress.objectid
        ]
        self._image = image
        # By subvolume, where the log was replayed: the inodes that it changed, and the number of a leaf of their items.
        self._changed: dict[int, tuple[Unsigned, int]] = {}
        self._leaves = (-1, np.empty(0, np.int64))  # of the subvolume asked for last
        roots = [subvolume.tree.root for subvolume in self.subvolumes]
        self.forest = Forest(image.blocks, [*roots, *further], bad or image.report, skipped)

    def fill(self, *tables: Table) -> None:
        """Read all leaves into *tables*; to be called once."""
        for batch in self._batches():
            for table in tables:
                table.add(batch)
        for table in tables:
            table.finish()

    def _batches(self) -> Iterator[LeafBatch]:
        """Yield the leaves of all trees, and behind them one for the changes of each replayed log."""
        leaves = 0
        for batch in self.forest.leaves():
            leaves += batch.leaves
            yield batch
        for number, subvolume in enumerate(self.subvolumes):
            if isinstance(subvolume.tree, OverlayTree):
                changed = subvolume.tree.changed_objectids()
                self._changed[number] = (np.array(changed, np.uint64), leaves)
                yield leaf_of(_items_of(subvolume.tree, changed, self._image.report), leaves)
                leaves += 1

    def row_numbers(self, table: Table, number: int) -> Ints:
        """Return the numbers of the rows of *table* that are subvolume *number*'s, in order of inode.

        Where the log was replayed, the inodes that it changed are not those of the leaves.
        """
        if self._leaves[0] != number:
            self._leaves = (number, self.forest.leaves_of(number))
        rows = table.rows_of(self._leaves[1])
        if number not in self._changed:
            return rows
        changed, leaf = self._changed[number]
        inode = table.rows.inode
        rows = np.concatenate([rows[find(changed, inode[rows]) < 0], table.rows_of(np.array([leaf]))])
        return rows[np.argsort(inode[rows], kind="stable")]

    def path_of(self, number: int) -> bytes | None:
        """Return the path of a subvolume from the top-level one, None when it hangs nowhere."""
        try:
            return namei.path_of_subvolume(self._image, self.subvolumes[number].id)
        except CorruptError as error:
            self._image.report(error)
            return None


def _items_of(tree: OverlayTree, objectids: list[int], bad: Report) -> Iterator[tuple[Key, bytes]]:
    for objectid in objectids:
        yield from tree.items(KEY_MIN._replace(objectid=objectid), KEY_MAX._replace(objectid=objectid), bad=bad)
