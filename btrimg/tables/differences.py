"""Which inodes of a snapshot have to be looked at when another subvolume that shares most of them has been.

Two subvolumes that share a leaf have the same items in it. So an inode none of whose items, in either of the two,
stands in a leaf that only one of them has is the same in both; and so is what one such inode says of another. Of the
others, those are the same of which these leaves say the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from btrimg.filesystem.treepaths import find
from btrimg.ondisk.constants import U64_MAX, ItemType, TreeId
from btrimg.ondisk.csum import crc32c
from btrimg.tables.leafscan import Gathered
from btrimg.tables.schema import FILE_EXTENTS, INODES, NAMES, ORPHANS, XATTRS
from btrimg.trees.batches import ranges
from btrimg.trees.block import is_subvolume

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from btrimg.filesystem.leafrows import LeafTable
    from btrimg.tables.leafscan import LeafScan
    from btrimg.tables.relation import Relation
    from btrimg.trees.scan import LeafBatch

    Ints = NDArray[np.int64]
    Unsigned = NDArray[np.uint64]
    Truths = NDArray[np.bool_]

_KEYS = np.random.default_rng(57).integers(0, 1 << 63, 5, np.uint64) | np.uint64(1)  # odd: no bit is lost
#: By relation: the columns of which one must be a differing inode for a row to be wanted.
ENDS = {
    INODES.name: ("inode",),
    NAMES.name: ("inode", "parent"),
    XATTRS.name: ("inode",),
    FILE_EXTENTS.name: ("inode",),
    ORPHANS.name: ("objectid",),
}
_TOP = np.array([TreeId.FIRST_FREE], np.uint64)  # the top directory, which has to be there in each


class Versions(NamedTuple):
    """What leaves say of inodes: a row for each leaf and inode that has items, or an orphan item, in it."""

    inode: Unsigned
    content: Unsigned  #: hash of the keys and payloads, wherever in the leaf they stand


def versions(batch: LeafBatch) -> tuple[LeafBatch, Versions]:
    """Return what the leaves of a batch say of inodes, in order of leaf.

    Payloads are told apart by CRC-32C, as blocks are in most filesystems.
    """
    batch = batch.take(batch.key_type <= ItemType.EXTENT_DATA)  # what stands behind is not of inodes
    orphan = (batch.objectid == TreeId.ORPHAN) & (batch.key_type == ItemType.ORPHAN_ITEM)
    inode = np.where(orphan, batch.offset, batch.objectid)
    first = np.append(True, (inode[1:] != inode[:-1]) | (batch.leaf[1:] != batch.leaf[:-1]))[: len(inode)]
    start = np.flatnonzero(first)
    if not len(start):
        return batch.take(start), Versions(inode, inode)
    words = batch.offset * _KEYS[0] + batch.key_type * _KEYS[1] + batch.size.view(np.uint64) * _KEYS[2]
    content = np.add.reduceat((words ^ (words >> np.uint64(31))) * _KEYS[3], start)
    # Payloads of neighbours stand side by side; where they do not, what is between makes a difference too many.
    begin = np.minimum.reduceat(batch.position, start)
    end = np.maximum.reduceat(batch.position + batch.size, start)
    payloads = map(batch.data.data.__getitem__, map(slice, begin.tolist(), end.tolist()))
    content += np.fromiter(map(crc32c, payloads), np.uint64, len(start)) * _KEYS[4]
    return batch.take(start), Versions(inode[start], content)


class Differences:
    """The differing rows of the subvolumes of a *scan*, of which a finished table of ``versions`` was made.

    Each subvolume is compared with the one before it, in the order of the trees, that it shares most leaves with; with
    none, all its inodes differ.
    """

    def __init__(self, scan: LeafScan, versions: LeafTable[Versions]) -> None:
        self._scan, self._versions = scan, versions
        #: by number of the subvolume's tree: the inodes that differ, in order
        self.inodes: dict[int, Unsigned] = {}
        self._whole: set[int] = set()
        self._linked: dict[int, Unsigned] = {}  # by number: the inodes at both ends of the names that differ
        self._last = np.empty(0, np.int64)  # by leaf: the number of the last subvolume that has it, -1 without one
        for number, (tree, _) in enumerate(scan.trees):
            if is_subvolume(tree):
                self.inodes[number] = self._differing(number)

    def _differing(self, number: int) -> Unsigned:
        leaves = self._scan.leaves_of(number)
        if not len(self._last):
            self._last = np.full(self._scan.leaves, -1, np.int64)
        before = self._last[leaves]
        before = before[before >= 0]
        self._last[leaves] = number
        if not len(before):
            self._whole.add(number)
            everything: Unsigned = _distinct(self._versions.rows.inode[self._versions.rows_of(leaves)])
            return everything
        base = self._scan.leaves_of(int(np.bincount(before).argmax()))
        mine = self._versions.rows_of(leaves[~self._among(base)[leaves]])
        theirs = self._versions.rows_of(base[~self._among(leaves)[base]])
        rows = np.concatenate([mine, theirs])
        inode = self._versions.rows.inode[rows]
        content = self._versions.rows.content[rows]
        content[len(mine) :] *= np.uint64(U64_MAX)  # times -1: what both say comes to 0
        order = np.argsort(inode, kind="stable")
        inode, content = inode[order], content[order]
        start = np.flatnonzero(np.append(True, inode[1:] != inode[:-1])[: len(inode)])
        changed = np.add.reduceat(content, start) != 0 if len(start) else start
        differing: Unsigned = inode[start[changed]]
        return differing

    def _among(self, leaves: Ints) -> Truths:
        """Return for every leaf whether it is one of *leaves*."""
        found = np.zeros(self._scan.leaves, np.bool_)
        found[leaves] = True
        return found

    def gathered(self, relation: Relation) -> Gathered:
        """Return the rows of a relation that differ, to be asked for once; all of those that are not of subvolumes.

        Entries for subvolumes always differ: what they lead to depends on where they stand. If ``names`` was asked for
        before, ``inodes`` has those at both ends of these, too, and the top directory; ``differs`` tells them apart.
        """
        if relation.name not in ENDS:
            return self._scan.gathered(relation)
        table = self._scan.take(relation)
        index = _Index(table, ENDS[relation.name])
        parts, ids = [np.empty(0, np.int64)], [np.empty(0, np.uint64)]
        for number, tree in self._scan.trees_of(relation):
            leaves = self._scan.leaves_of(number)
            if number in self._whole or number not in self.inodes:
                rows = table.rows_of(leaves)
            else:
                wanted = self.inodes[number]
                if relation.name == INODES.name and number in self._linked:
                    wanted = _distinct(np.concatenate([wanted, self._linked[number]]))
                rows = index.rows_of(wanted)
                rows = rows[self._among(leaves)[index.leaf[rows]]]
                if relation.name == NAMES.name:
                    ends = [_TOP, table.rows.inode[rows], table.rows.parent[rows]]
                    self._linked[number] = _distinct(np.concatenate(ends))
            parts.append(rows)
            ids.append(np.full(len(rows), tree, np.uint64))
        return Gathered(relation, table.rows._asdict(), np.concatenate(parts), np.concatenate(ids))

    def differs(self, gathered: Gathered) -> Truths:
        """Return for every row whether its ``inode`` differs, so that all that is said of it is wanted, too."""
        found = []
        number = gathered.different["inode"][gathered.rows]
        for tree in range(len(self._scan.trees)):
            if tree in self.inodes:
                rows = number[gathered.trees == self._scan.trees[tree][0]]
                found.append(
                    np.ones(len(rows), np.bool_) if tree in self._whole else find(self.inodes[tree], rows) >= 0
                )
        return np.concatenate([np.empty(0, np.bool_), *found])

    def present(self) -> dict[str, NDArray[Any]]:
        """Return the differing inodes of all subvolumes as columns ``subvolume`` and ``inode``."""
        trees = np.array([self._scan.trees[number][0] for number in self.inodes], np.uint64)
        inodes = list(self.inodes.values())
        subvolume = np.repeat(trees, [len(each) for each in inodes])
        return {"subvolume": subvolume, "inode": np.concatenate([np.empty(0, np.uint64), *inodes])}


def _distinct(values: NDArray[Any]) -> NDArray[Any]:
    """Return *values* in order, each once; numpy 2.4's own ``unique`` hashes them first, which takes far longer."""
    ordered = np.sort(values)
    distinct: NDArray[Any] = ordered[np.append(True, ordered[1:] != ordered[:-1])[: len(ordered)]]
    return distinct


class _Index:
    """The rows of a table by the inodes that they are about."""

    def __init__(self, table: LeafTable[Any], ends: tuple[str, ...]) -> None:
        self.leaf = table.leaves  #: by row
        self._columns = []
        for name in ends:
            column = getattr(table.rows, name)
            order = np.argsort(column, kind="stable")
            self._columns.append((column[order], order))
        self._always = np.empty(0, np.int64)
        if "location_type" in table.rows._fields:
            self._always = np.flatnonzero(table.rows.location_type == ItemType.ROOT_ITEM)

    def rows_of(self, inodes: Unsigned) -> Ints:
        """Return the numbers of the rows about *inodes*, in order."""
        found = [self._always]
        for column, order in self._columns:
            start = np.searchsorted(column, inodes, "left")
            found.append(order[ranges(start, np.searchsorted(column, inodes, "right") - start)])
        rows: Ints = _distinct(np.concatenate(found))
        return rows
