"""The laws of items as one table, applied to all items of many leaves at once."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from btrimg.check.itemlaws import INODES, NO_LIMIT, Law, laws
from btrimg.ondisk.constants import ItemType, TreeId
from btrimg.ondisk.extents import FileExtent
from btrimg.ondisk.items import ITEM_KINDS
from btrimg.trees.block import is_subvolume

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from btrimg.trees.leafbatch import LeafBatch

    Kinds = NDArray[np.intp]
    Numbers = NDArray[np.uint64]

_SIZES = 512  # payloads of this size or more are judged one by one


class Bounds:
    """What numbers are in order, as arrays by type of key: from *least* to *most*, in steps."""

    def __init__(self, least: Sequence[int], most: Sequence[int], step: Sequence[int]) -> None:
        self._least, self._most, self._step = (np.array(each, np.uint64) for each in (least, most, step))
        self._span, self._in_steps = self._most - self._least, self._step > 1

    def broken(self, kind: Kinds, values: Numbers) -> NDArray[np.int64]:
        """Return the indexes of the *values* of items of that *kind* which are not in order."""
        beyond = values - self._least[kind]  # what is below the least wraps
        wrong = beyond > self._span[kind]
        some = np.flatnonzero(self._in_steps[kind])
        wrong[some] |= beyond[some] % self._step[kind[some]] != 0
        return np.flatnonzero(wrong)

    def zeros(self) -> tuple[Numbers, NDArray[np.bool_]]:
        """Return the bits that are 0 in every number that is in order, and of which types no other is not."""
        masks = np.where(self._least == 0, ~self._most | (self._step - np.uint64(1)), 0)
        powers = [values & (values - np.uint64(1)) == 0 for values in (self._most + np.uint64(1), self._step)]
        return np.where(powers[0] & powers[1], masks, 0), (self._least == 0) & powers[0] & powers[1]

    def unlimited(self) -> NDArray[np.bool_]:
        """Return of which types every large number is in order."""
        unlimited: NDArray[np.bool_] = (self._most == NO_LIMIT) & ~self._in_steps
        return unlimited

    def within(self, kind: Kinds, values: Numbers) -> NDArray[np.bool_]:
        """Return which of the *values* are from least to most."""
        within: NDArray[np.bool_] = values - self._least[kind] <= self._span[kind]
        return within

    def nearest(self, kind: Kinds, values: Numbers) -> Numbers:
        """Return the nearest number at or below each of the *values* that is in order, else the least."""
        least = self._least[kind]
        beyond = np.clip(values, least, self._most[kind]) - least
        return least + beyond // self._step[kind] * self._step[kind]


# What may stand in which tree; trees of files share a row, and the last row is for trees that nobody knows.
_TREES = (*(tree for tree in TreeId if tree < TreeId.FIRST_FREE and tree != TreeId.ROOT_TREE_DIR), TreeId.TREE_LOG)
_UNKNOWN_TREE = len(_TREES)
STANDS_IN: NDArray[np.bool_] = np.zeros((len(_TREES) + 1, 256), np.bool_)
STANDS_IN[_UNKNOWN_TREE] = True
for _key_type, _kind in ITEM_KINDS.items():
    STANDS_IN[[_TREES.index(tree) for tree in _kind.trees], _key_type] = True
STANDS_IN[_TREES.index(TreeId.FS_TREE), ItemType.UNTYPED] = True  # caches of inode numbers, of old kernels
STANDS_IN[_TREES.index(TreeId.UUID_TREE), [ItemType.INODE_ITEM, ItemType.INODE_REF]] = True  # mkfs 4.x put them there


def row_of_tree(owner: int) -> int:
    """Return the row of ``STANDS_IN`` for leaves of a tree; reloc trees hold what the trees that they copy hold."""
    if is_subvolume(owner) or owner in (TreeId.DATA_RELOC_TREE, TreeId.TREE_RELOC):
        owner = TreeId.FS_TREE
    return _TREES.index(owner) if owner in _TREES else _UNKNOWN_TREE


class LawTable:
    """The laws as arrays by type of key."""

    def __init__(self, sectorsize: int, csum_size: int) -> None:
        known = laws(csum_size)
        each = [known.get(key_type, Law()) for key_type in range(256)]
        self.size = Bounds([law.least for law in each], [law.most for law in each], [law.step for law in each])
        self.objectid, self.offset = (
            Bounds(
                [getattr(law, name)[0] for law in each],
                [getattr(law, name)[1] for law in each],
                [sectorsize if name in law.aligned else 1 for law in each],
            )
            for name in ("objectid", "offset")
        )
        inode = np.array([law.objectid == INODES for law in each])
        self._zeros_of_objectid, told = self.objectid.zeros()
        self._zeros_of_offset, told_too = self.offset.zeros()
        self._suspects = self._make_suspects((told | inode) & told_too, np.array(sorted(known)))

    def _make_suspects(self, told: NDArray[np.bool_], known: NDArray[np.intp]) -> NDArray[np.bool_]:
        """Return by tree, type and size whether an item has to be looked at; *told* says whose keys masks judge.

        There are laws for *known* types.
        """
        by_type = np.repeat(~told[:, np.newaxis], _SIZES, axis=1)
        kind, size = np.repeat(known, _SIZES), np.tile(np.arange(_SIZES, dtype=np.uint64), len(known))
        broken = self.size.broken(kind, size)
        by_type[kind[broken], size[broken].astype(np.intp)] = True
        by_type[:, -1] = ~self.size.unlimited() | ~told  # of this size or larger
        by_type[ItemType.EXTENT_DATA] = np.arange(_SIZES) != FileExtent.SIZE
        by_type[ItemType.FREE_SPACE_BITMAP] = True  # what is right depends on the key, and there are few
        return (by_type | ~STANDS_IN[:, :, np.newaxis]).reshape(-1)

    def suspects(self, row: NDArray[np.intp], items: LeafBatch) -> NDArray[np.intp]:
        """Return the indexes of all *items* that break a law, and of some that do not; *row* is that of the tree.

        A few operations over all items spare many over most of them.
        """
        kind = items.key_type.astype(np.intp)
        suspect = self._suspects[(row * 256 + kind) * _SIZES + np.minimum(items.size, _SIZES - 1)]
        suspect |= items.objectid - np.uint64(INODES[0]) > np.uint64(INODES[1] - INODES[0])
        zeros = items.objectid & self._zeros_of_objectid[kind] | items.offset & self._zeros_of_offset[kind]
        return np.flatnonzero(suspect | (zeros != 0))


@lru_cache(maxsize=1)
def law_table(sectorsize: int, csum_size: int) -> LawTable:
    """Return the laws of a volume; making the table takes 6 ms, and it is the same for most volumes."""
    return LawTable(sectorsize, csum_size)
