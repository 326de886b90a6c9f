"""The filesystem as a transaction under way would leave it: for reading, before anything is committed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from btrimg.errors import NotFoundError
from btrimg.filesystem.image import Image, Subvolume
from btrimg.ondisk.constants import TreeId
from btrimg.trees.block import is_subvolume

if TYPE_CHECKING:
    from btrimg.trees.tree import Tree
    from btrimg.write.transaction import Transaction


class LentImage(Image):
    """An opened image for others to read; closing it leaves it open."""

    def __init__(self, image: Image) -> None:
        vars(self).update(vars(image))
        self.faults = 0

    def close(self) -> None:
        """Do nothing."""


class PendingImage(Image):
    """Reads the trees of *txn* where *image* reads those of the last commit; good until something is changed.

    Data that the transaction holds back are written to free space first, and their checksums put into their tree.
    Closing it does nothing: the volume is the image's.
    """

    def __init__(self, image: Image, txn: Transaction) -> None:
        for ready in txn.before_commit:
            ready()
        if txn.has_tree(TreeId.CSUM_TREE):
            txn.csums.apply(txn.tree(TreeId.CSUM_TREE))
        self._txn = txn
        super().__init__(image.volume)
        self.listen(image.report)

    def _begin(self) -> None:
        self.superblock = self.volume.superblock
        self.root_tree = self._txn.tree(TreeId.ROOT_TREE)
        self._subvolumes: dict[int, Subvolume] = {}
        self._trees: dict[int, Tree] = {}
        self._csums = None

    def _find_tree(self, tree_id: int) -> Tree:
        return self._txn.tree(tree_id)

    def subvolume(self, subvolume_id: int) -> Subvolume:
        """Return a subvolume; raise NotFoundError when there is none with that id."""
        if not is_subvolume(subvolume_id) or not self._txn.has_tree(subvolume_id):
            raise NotFoundError(f"there is no subvolume {subvolume_id}")
        return Subvolume(subvolume_id, self._txn.root_item(subvolume_id), self._txn.tree(subvolume_id))

    def close(self) -> None:
        """Do nothing."""
