"""The relations of an image as rows in batches, made when they are asked for: what DuckDB is fed with.

Of a relation that comes from leaves only the rows of each leaf are kept, once and in files when they are many; the rows
of a tree are gathered from them batch by batch. So memory stays bounded, however many snapshots share a leaf.
"""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np

from btrimg.filesystem.strings import Strings
from btrimg.named import NamedTuple
from btrimg.tables import blockcopies, devicespace
from btrimg.tables.build import FEW, build, few
from btrimg.tables.cachedspace import cached_rows
from btrimg.tables.leafscan import TAKES, LeafScan, every_tree, trees_of_kind
from btrimg.tables.schema import FREE_SPACE, PHYSICAL_RANGES, RELATIONS, TREE_BLOCKS
from btrimg.tables.utf8 import as_utf8, taken

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from btrimg.filesystem.image import Image
    from btrimg.filesystem.leafrows import LeafTable
    from btrimg.tables.relation import Column, Relation
    from btrimg.tables.spill import Spill

    Ints = NDArray[np.int64]
    Values = NDArray[Any] | Strings
    Progress = Callable[[int, int], None]
    Batch = Sequence[Values]  # the columns of a relation, that of the tree too

BATCH_ROWS = 1 << 17  #: about; the rows of a leaf stay together


class Rows(NamedTuple):
    """A relation; its rows are made anew each time that *batches* is called."""

    relation: Relation
    batches: Callable[[], Iterator[Batch]]


def relations(
    image: Image, names: Sequence[str], spill: Spill, progress: Progress = lambda _leaves, _bytes: None
) -> Iterator[Rows]:
    """Yield the relations *names* of the image as of its last commit, text as UTF-8 or as indexes of its words.

    What cannot be read is reported to *image* and skipped. A subvolume whose deletion has begun to free blocks has no
    rows. *progress* hears how many more leaves, of how many bytes, are read.
    """
    leaves = [RELATIONS[name] for name in names if name in TAKES]
    kinds = sorted({tree for relation in leaves for tree in relation.trees})
    trees = [root for kind in kinds for root in trees_of_kind(image, kind)]
    if TREE_BLOCKS.name in names:  # read in the same scan; the number stands for trees that hold none of the relations
        trees += [(0, at) for number, at in every_tree(image) if (number, at) not in trees]
    scan = LeafScan(image, leaves, trees, parts=spill.parts, progress=progress)
    for name in names:
        relation = RELATIONS[name]
        if name in FEW:
            yield _whole(relation, few(image, relation).different)
        elif name == TREE_BLOCKS.name:
            yield _whole(relation, blockcopies.tree_blocks(image, scan))
        elif name == PHYSICAL_RANGES.name:
            yield _of_devices(image, relation)
        else:
            rows = _of_leaves(scan, relation)
            yield _followed(rows, _whole(relation, cached_rows(image))) if name == FREE_SPACE.name else rows


def _whole(relation: Relation, columns: Mapping[str, Values]) -> Rows:
    """Return the rows of a relation that is small enough to be whole in memory."""
    return Rows(relation, lambda: iter([[_text(column, columns[column.name]) for column in relation.columns]]))


def _followed(first: Rows, second: Rows) -> Rows:
    return Rows(first.relation, lambda: chain(first.batches(), second.batches()))


def _of_devices(image: Image, relation: Relation) -> Rows:
    def batches() -> Iterator[Batch]:
        for part in devicespace.physical(image, lambda *names: build(image, names)):
            yield [part[column.name] for column in relation.columns]

    return Rows(relation, batches)


def _of_leaves(scan: LeafScan, relation: Relation) -> Rows:
    table, trees = scan.take(relation), scan.trees_of(relation)

    def batches() -> Iterator[Batch]:
        for number, tree in trees:
            for leaves in _in_batches(table, scan.leaves_of(number)):
                rows = table.rows_of(leaves)
                ids = [np.full(len(rows), tree, np.uint64)] if relation.tree else []
                yield ids + [
                    _text(column, taken(values, rows) if isinstance(values, Strings) else values[rows])
                    for column, values in zip(relation.columns, table.rows, strict=True)
                ]

    return Rows(relation, batches)


def _in_batches(table: LeafTable[Any], leaves: Ints) -> Iterator[Ints]:
    """Yield *leaves* in parts of about BATCH_ROWS rows, without those that have none."""
    counts = table.counts_of(leaves)
    leaves, counts = leaves[counts > 0], counts[counts > 0]
    number = (np.cumsum(counts) - counts) // BATCH_ROWS
    yield from np.split(leaves, np.flatnonzero(np.diff(number)) + 1) if len(leaves) else ()


def _text(column: Column, values: Values) -> Values:
    return as_utf8(values) if column.type == "text" and isinstance(values, Strings) else values
