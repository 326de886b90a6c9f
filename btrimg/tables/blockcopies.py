"""The state of every copy of many tree blocks: read device by device in the order in which they lie there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from btrimg.filesystem import copystate, strings
from btrimg.filesystem.backrefs import Extent
from btrimg.tables.utf8 import taken
from btrimg.trees.ahead import ahead
from btrimg.trees.batches import BATCH_BYTES, fill, heads_of, sealed
from btrimg.volume.places import PlaceMap

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from btrimg.filesystem.image import Image
    from btrimg.filesystem.strings import Strings
    from btrimg.tables.leafscan import Columns, LeafScan

    Codes = NDArray[np.uint8]

_WORDS = ("", copystate.OK, copystate.BAD, copystate.MISSING)  # by code; the first stands for no copy
_NONE, _OK, _BAD, _MISSING = range(len(_WORDS))


def tree_blocks(image: Image, scan: LeafScan) -> Columns:
    """Return the columns of ``tree_blocks``, by address, of the blocks that *scan* read."""
    blocks = scan.tree_blocks()
    return blocks | {"csum": _states(image, blocks, scan.forest.repaired)}


def _states(image: Image, blocks: Mapping[str, NDArray[Any]], repaired: list[int]) -> Strings:
    """Return for each of *blocks* the words for all its copies, in order and separated by spaces.

    *blocks* has the columns logical, level and generation of sound blocks; the first copy is known to be good unless
    the block is *repaired*. A copy is ok when it is that block, bad when it is another one or its checksum is wrong,
    missing when it cannot be read.
    """
    codes = _codes(image, blocks, np.isin(blocks["logical"], np.array(repaired, np.uint64)))
    weights = len(_WORDS) ** np.arange(len(codes))
    different, number = np.unique(weights @ codes, return_inverse=True)
    words = [[_WORDS[each // weight % len(_WORDS)] for weight in weights.tolist()] for each in different.tolist()]
    return taken(strings.of_list([" ".join(filter(None, several)).encode() for several in words]), number)


def _codes(image: Image, blocks: Mapping[str, NDArray[Any]], repaired: NDArray[np.bool_]) -> Codes:
    """Return the code of each copy of each block: (copies at most, blocks)."""
    nodesize, places = image.volume.nodesize, PlaceMap(image.volume.chunk_map).locate(blocks["logical"])
    codes = np.zeros((int(places.copies.max(initial=0)), len(places.copies)), np.uint8)
    whole = places.contiguous >= nodesize
    for copy, column in enumerate(codes):
        column[(copy == 0) & whole & ~repaired] = _OK
        here = np.flatnonzero(whole & (places.copies > copy) & (repaired | (copy > 0)))
        here = here[np.lexsort((places.physical[copy, here], places.devid[copy, here]))]
        column[here] = _copy(image, {name: values[here] for name, values in blocks.items()}, copy)
    for row in np.flatnonzero(~whole).tolist():  # what a conversion from ext4 may leave: blocks across elements
        logical, level, generation = (int(blocks[name][row]) for name in ("logical", "level", "generation"))
        extent = Extent(logical, nodesize, level, generation)
        for copy in range(int(places.copies[row])):
            state = copystate.of_copy(image, extent.logical, nodesize, extent, copy)
            codes[copy, row] = _WORDS.index(state.csum)
    return codes


def _copy(image: Image, blocks: Mapping[str, NDArray[Any]], copy: int) -> Codes:
    """Return the codes of one copy of *blocks*, which come in the order in which they lie on the devices."""
    volume, count = image.volume, len(blocks["logical"])
    places = PlaceMap(volume.chunk_map).locate(blocks["logical"])
    step = max(1, BATCH_BYTES // volume.nodesize)

    def load(start: int, buffer: NDArray[np.uint8]) -> Codes:
        some = slice(start, start + step)
        rows = buffer[: len(blocks["logical"][some])]
        there = fill(volume, rows, places.devid[copy, some], places.physical[copy, some], np.ones(len(rows), np.bool_))
        heads = heads_of(rows)
        good = sealed(volume, rows, heads) & (heads["bytenr"] == blocks["logical"][some])
        for name in ("level", "generation"):
            good &= heads[name] == blocks[name][some]
        return np.where(there, np.where(good, _OK, _BAD), _MISSING).astype(np.uint8)

    def new_buffer() -> NDArray[np.uint8]:
        return np.empty((min(step, count), volume.nodesize), np.uint8)

    return np.concatenate(
        [np.empty(0, np.uint8), *(codes for _, codes in ahead(load, range(0, count, step), new_buffer))]
    )
