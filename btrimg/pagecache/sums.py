"""The stored checksums of many sectors at once, as columns."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from btrimg.errors import NotFoundError
from btrimg.filesystem import strings
from btrimg.named import NamedTuple
from btrimg.ondisk.blocks import Key
from btrimg.ondisk.constants import ItemType, TreeId
from btrimg.trees.batches import ranges
from btrimg.trees.leafbatch import leaf_of
from btrimg.trees.overlay import OverlayTree
from btrimg.trees.scan import Forest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from btrimg.filesystem.image import Image
    from btrimg.filesystem.strings import Strings
    from btrimg.trees.leafbatch import LeafBatch

    Ints = NDArray[np.int64]
    Bytes = NDArray[np.uint8]
    Bools = NDArray[np.bool_]

_FEW = 64  #: so many ranges are looked up in the tree, more in all of its leaves


class Sums(NamedTuple):
    """The checksums of sectors, one per row."""

    sums: Bytes  #: (sectors, bytes of a checksum); zeros where there is none
    known: Bools

    def words(self) -> list[Ints]:
        """Return the checksums as columns of numbers, 8 bytes each or fewer; the first column is the first bytes."""
        count, size = self.sums.shape
        wide = np.zeros((count, -(-size // 8) * 8), np.uint8)
        wide[:, :size] = self.sums
        return list(wide.view(np.int64).T)


def lookup(image: Image, start: Ints, sectors: Ints) -> Sums:
    """Return the checksums of *sectors* sectors from each logical address *start* on, one range after the other.

    What cannot be read is reported to *image*; there is no checksum then.
    """
    sectorsize = image.volume.sectorsize
    first, found = _items(image, start, start + sectors * sectorsize)
    number = ranges(np.zeros(len(start), np.int64), sectors)
    address = np.repeat(start, sectors) + number * sectorsize
    item = np.searchsorted(first, address, "right") - 1
    inside = (address - np.append(first, 0)[item]) // sectorsize
    row = found.offsets[item] // image.volume.csum.size + inside
    end = np.append(found.offsets[1:], 0)[item]  # the last one is that of no item
    known = row < end // image.volume.csum.size
    every = found.data.reshape(-1, image.volume.csum.size)
    sums = np.zeros((len(address), image.volume.csum.size), np.uint8)
    sums[known] = every[row[known]]
    return Sums(sums, known)


def _items(image: Image, start: Ints, end: Ints) -> tuple[Ints, Strings]:
    """Return the addresses and checksums of items by address, among them all that reach into [*start*, *end*)."""
    firsts, sums = [np.empty(0, np.int64)], [strings.EMPTY]
    for batch in _leaves(image, start, end):
        items = batch.of_type(ItemType.EXTENT_CSUM)
        firsts.append(items.offset.view(np.int64))
        sums.append(strings.cut(items.data, items.position, items.size - items.size % image.volume.csum.size))
    first = np.concatenate(firsts)
    order = np.argsort(first, kind="stable")  # leaves come in the order of the disk
    return first[order], strings.glue((strings.concatenate(sums), order))


def _leaves(image: Image, start: Ints, end: Ints) -> Iterator[LeafBatch]:
    try:
        tree = image.tree(TreeId.CSUM_TREE)
    except NotFoundError:
        return
    if isinstance(tree, OverlayTree):
        yield leaf_of(tree.items(bad=image.report), 0)
    elif len(start) <= _FEW:
        found: dict[Key, bytes] = {}
        for logical, stop in zip(start.tolist(), end.tolist(), strict=True):
            key = Key(TreeId.EXTENT_CSUM, ItemType.EXTENT_CSUM, logical)
            before = tree.floor(key)
            if before and before[0][:2] == key[:2]:
                found[before[0]] = before[1]
            found.update(tree.items(key, key._replace(offset=stop - 1), bad=image.report))
        yield leaf_of(sorted(found.items()), 0)
    else:
        yield from Forest(image.blocks, [tree.root], image.report).leaves()
