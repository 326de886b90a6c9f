"""Which inodes of a snapshot have to be looked at when another subvolume that shares most of them has been.

Two subvolumes that share a leaf have the same items in it. So an inode none of whose items, in either of the two,
stands in a leaf that only one of them has is the same in both; and so is what one such inode says of another. Of the
others, those are the same of which these leaves say the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from btrimg.filesystem.leafrows import LeafTable
from btrimg.named import NamedTuple
from btrimg.ondisk.constants import U64_MAX, ItemType, TreeId
from btrimg.ondisk.csum import crc32c
from btrimg.tables.growing import GrowingParts
from btrimg.tables.hashes import scattered
from btrimg.tables.leafscan import Gathered
from btrimg.tables.schema import FILE_EXTENTS, INODES, NAMES, ORPHANS, XATTRS
from btrimg.trees.batches import ranges
from btrimg.trees.distinct import among, different, segments

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from numpy.typing import NDArray

    from btrimg.tables.leafscan import LeafScan
    from btrimg.tables.relation import Relation
    from btrimg.trees.leafbatch import LeafBatch

    Ints = NDArray[np.int64]
    Unsigned = NDArray[np.uint64]
    Truths = NDArray[np.bool_]

_KEYS = scattered(57, 6) | np.uint64(1)  # odd: no bit is lost
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


def versions(batch: LeafBatch, compared: Truths) -> tuple[LeafBatch, Versions]:
    """Return what the leaves of a batch say of inodes, in order of leaf; of leaves that are not *compared*, anything.

    Payloads are told apart by CRC-32C, as blocks are in most filesystems.
    """
    batch = batch.take(batch.key_type <= ItemType.EXTENT_DATA)  # what stands behind is not of inodes
    orphan = (batch.objectid == TreeId.ORPHAN) & (batch.key_type == ItemType.ORPHAN_ITEM)
    inode = np.where(orphan, batch.offset, batch.objectid)
    first = np.append(True, (inode[1:] != inode[:-1]) | (batch.leaf[1:] != batch.leaf[:-1]))[: len(inode)]
    start = np.flatnonzero(first)
    items, inode = batch.take(start), inode[start]
    content = (items.leaf.view(np.uint64) + np.uint64(1)) * _KEYS[5]
    looked_at = compared[batch.leaf]
    some = batch.take(looked_at)
    if len(some.leaf):
        start = np.flatnonzero(first[np.flatnonzero(looked_at)])
        content[np.flatnonzero(compared[items.leaf])] = _contents(some, start)
    return items, Versions(inode, content)


def _contents(items: LeafBatch, start: Ints) -> Unsigned:
    """Return a hash of the keys and payloads of each of the groups of *items* that *start* somewhere."""
    words = items.offset * _KEYS[0] + items.key_type * _KEYS[1] + items.size.view(np.uint64) * _KEYS[2]
    content: Unsigned = np.add.reduceat((words ^ (words >> np.uint64(31))) * _KEYS[3], start)
    # Payloads of neighbours stand side by side; where they do not, what is between makes a difference too many.
    begin = np.minimum.reduceat(items.position, start)
    end = np.maximum.reduceat(items.position + items.size, start)
    payloads = map(items.data.data.__getitem__, map(slice, begin.tolist(), end.tolist()))
    content += np.fromiter(map(crc32c, payloads), np.uint64, len(start)) * _KEYS[4]
    return content


def version_table(scan: LeafScan) -> LeafTable[Versions]:
    """Return a table of ``versions``, to be filled by *scan*, whose nodes have been read."""
    compared = np.zeros(scan.leaves, np.bool_)
    for _, leaves, base in _with_bases(scan, scan.forest.promised_leaves):
        if base is not None:
            compared |= _among(leaves, scan.leaves) ^ _among(base, scan.leaves)
    return LeafTable(lambda batch: versions(batch, compared), GrowingParts())


def _with_bases(scan: LeafScan, leaves_of: Callable[[int], Ints]) -> Iterator[tuple[int, Ints, Ints | None]]:
    """Yield for each subvolume its number, its leaves and those of the one before it that it shares most with."""
    last = np.full(scan.leaves, -1, np.int64)  # by leaf: the number of the last subvolume that has it, -1 without one
    for number, _ in scan.trees_of(INODES):
        leaves = leaves_of(number)
        before = last[leaves]
        before = before[before >= 0]
        last[leaves] = number
        yield number, leaves, leaves_of(int(np.bincount(before).argmax())) if len(before) else None


def _among(leaves: Ints, count: int) -> Truths:
    """Return for each of *count* leaves whether it is one of *leaves*."""
    found = np.zeros(count, np.bool_)
    found[leaves] = True
    return found


class Differences:
    """The differing rows of the subvolumes of a *scan* that has filled its ``version_table``.

    Each subvolume is compared with the one before it, in the order of the trees, that it shares most leaves with; with
    none, all its inodes differ.
    """

    def __init__(self, scan: LeafScan, versions: LeafTable[Versions]) -> None:
        self._scan = scan
        #: by number of the subvolume's tree: the inodes that differ, in order
        self.inodes: dict[int, Unsigned] = {}
        self._whole: set[int] = set()
        self._linked: dict[int, Unsigned] = {}  # by number: the inodes at both ends of the names that differ
        for number, leaves, base in _with_bases(scan, scan.leaves_of):
            if base is None:
                self._whole.add(number)
                self.inodes[number] = different(versions.rows.inode[versions.rows_of(leaves)])
            else:
                self.inodes[number] = self._differing(versions, leaves, base)

    def _differing(self, versions: LeafTable[Versions], leaves: Ints, base: Ints) -> Unsigned:
        mine = versions.rows_of(leaves[~_among(base, self._scan.leaves)[leaves]])
        theirs = versions.rows_of(base[~_among(leaves, self._scan.leaves)[base]])
        rows = np.concatenate([mine, theirs])
        inode = versions.rows.inode[rows]
        content = versions.rows.content[rows]
        content[len(mine) :] *= np.uint64(U64_MAX)  # times -1: what both say comes to 0
        order = np.argsort(inode, kind="stable")
        inode, content = inode[order], content[order]
        start = np.flatnonzero(np.append(True, inode[1:] != inode[:-1])[: len(inode)])
        changed = np.add.reduceat(content, start) != 0 if len(start) else start
        differing: Unsigned = inode[start[changed]]
        return differing

    def gathered(self, relation: Relation) -> Gathered:
        """Return the rows of a relation that differ, to be asked for once; all of those that are not of subvolumes.

        Entries for subvolumes always differ: what they lead to depends on where they stand. If ``names`` was asked for
        before, ``inodes`` has those at both ends of these, too, and the top directory; ``differs`` tells them apart.
        """
        if relation.name not in ENDS:
            return self._scan.gathered(relation)
        table = self._scan.take(relation)
        wanted = self._wanted(relation)
        index = _Index(table, ENDS[relation.name], wanted.values())
        parts, ids = [np.empty(0, np.int64)], [np.empty(0, np.uint64)]
        for number, tree in self._scan.trees_of(relation):
            leaves = self._scan.leaves_of(number)
            if number in wanted:
                rows = index.rows_of(wanted[number], _among(leaves, self._scan.leaves))
                if relation.name == NAMES.name:
                    ends = [_TOP, table.rows.inode[rows], table.rows.parent[rows]]
                    self._linked[number] = different(np.concatenate(ends))
            else:
                rows = table.rows_of(leaves)
            parts.append(rows)
            ids.append(np.full(len(rows), tree, np.uint64))
        return Gathered(relation, table.rows._asdict(), np.concatenate(parts), np.concatenate(ids))

    def _wanted(self, relation: Relation) -> dict[int, Unsigned]:
        """Return the inodes of which rows are wanted, by number of the tree, where not all are."""
        numbers = [number for number, _ in self._scan.trees_of(relation)]
        wanted = {number: self.inodes[number] for number in numbers if number in self.inodes.keys() - self._whole}
        if relation.name == INODES.name:
            linked = self._linked.items()
            wanted |= {number: different(np.concatenate([wanted[number], more])) for number, more in linked}
        return wanted

    def differs(self, gathered: Gathered) -> Truths:
        """Return for every row whether its ``inode`` differs, so that all that is said of it is wanted, too."""
        inode: Any = gathered.different["inode"]
        numbers = {self._scan.trees[number][0]: number for number in self.inodes}
        found = np.ones(len(gathered.rows), np.bool_)
        for start, end in segments(gathered.trees):
            number = numbers[int(gathered.trees[start])]
            if number not in self._whole:
                found[start:end] = among(inode[gathered.rows[start:end]], self.inodes[number])
        return found


class _Index:
    """The rows of a table by the inodes that they are about, as far as these are *wanted* anywhere."""

    def __init__(self, table: LeafTable[Any], ends: tuple[str, ...], wanted: Iterable[Unsigned]) -> None:
        self._leaf = table.leaves  # by row
        self._columns = []
        anywhere = different(np.concatenate([np.empty(0, np.uint64), *wanted]))
        for name in ends:
            column = getattr(table.rows, name)
            some = np.flatnonzero(among(column, anywhere))
            order = some[np.argsort(column[some], kind="stable")]
            self._columns.append((column[order], order))
        self._always = np.empty(0, np.int64)
        if "location_type" in table.rows._fields:
            self._always = np.flatnonzero(table.rows.location_type == ItemType.ROOT_ITEM)

    def rows_of(self, inodes: Unsigned, leaves: Truths) -> Ints:
        """Return the numbers of the rows about *inodes* in some *leaves*, a truth value for each, in order."""
        found = [self._always[leaves[self._leaf[self._always]]]]
        for column, order in self._columns:
            start = np.searchsorted(column, inodes, "left")
            rows = order[ranges(start, np.searchsorted(column, inodes, "right") - start)]
            found.append(rows[leaves[self._leaf[rows]]])  # most are in leaves of other versions of the subvolume
        return different(np.concatenate(found))
