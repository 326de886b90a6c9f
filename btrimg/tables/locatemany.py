"""What stands at many bytes of devices, or at many logical addresses: all at once what ``Locator`` says one by one."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np

from btrimg.filesystem.columns import COMPRESSED
from btrimg.named import NamedTuple
from btrimg.tables import locatestate
from btrimg.tables.coverage import holders_of, portions
from btrimg.tables.locatescan import Scan
from btrimg.tables.locatestate import Places
from btrimg.trees.batches import ranges
from btrimg.trees.distinct import different, numbered
from btrimg.volume import devicepieces
from btrimg.volume.devicemap import DeviceMap
from btrimg.volume.devicepieces import NOWHERE
from btrimg.volume.places import PlaceMap

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from concurrent.futures import Future

    from numpy.typing import NDArray

    from btrimg.filesystem.image import Image
    from btrimg.filesystem.locate import Locator, TreeBlock
    from btrimg.filesystem.strings import Strings
    from btrimg.tables.locatescan import Extents

    Ints = NDArray[np.int64]
    Unsigned = NDArray[np.uint64]
    Codes = NDArray[np.uint8]
    Bools = NDArray[np.bool_]

KINDS = ("superblock", "tree block", "data", "parity", "free", "reserved", "unallocated", "other")
SUPERBLOCK, TREE_BLOCK, DATA, PARITY, FREE, RESERVED, UNALLOCATED, OTHER = range(len(KINDS))
_OF_DEVICE = np.array([SUPERBLOCK, FREE, PARITY, RESERVED, UNALLOCATED], np.uint8)  # by the kinds of devicepieces
_PAIRS = 1 << 20  #: of an address and a user of it, told of at a time


class Asked(NamedTuple):
    """Addresses, one per row."""

    devid: Ints  #: NOWHERE where the address is a logical one
    address: Ints


class Copies(NamedTuple):
    """Copies of the bytes, one per row."""

    whose: Ints  #: number of the address
    number: Ints  #: of the copy; of parity, 0 for P and 1 for Q
    devid: Unsigned
    physical: Ints


class Users(NamedTuple):
    """Parts of files, one per row, in order of address, tree, inode and offset."""

    whose: Ints  #: number of the address
    use: Ints  #: row in ``Scan.uses``
    root: Ints  #: number of the tree's root among those of the scan
    inode: Unsigned
    offset: Ints
    length: Ints
    kind: Codes  #: index into ``columns.KINDS``
    compression: Codes


class Answers(NamedTuple):
    """What some of the addresses are, from number *first* on; the columns up to *bookend* have one row for each."""

    first: int
    kind: Codes  #: index into KINDS; OTHER is for ``Locator`` to tell
    devid: Ints  #: NOWHERE where a logical address was asked for
    physical: Ints  #: likewise
    logical: Ints  #: of parity, of its row's first byte; NOWHERE where there is none
    chunk: Ints  #: number among the chunks, NOWHERE outside
    extent: Ints  #: row in ``ManyLocator.extents``, NOWHERE outside
    block: Ints  #: number in ``ManyLocator.blocks``, NOWHERE where there is none
    bookend: Bools
    copies: Copies
    users: Users
    states: Callable[[], Codes]  #: of the copies, indexes into ``locatestate.STATES``; waits until they are read


class ManyLocator:
    """Says of many single bytes of an opened image what they are for.

    *locator* is asked where a scan cannot tell: log trees, and what is damaged. *text* is what is made of names before
    paths are. Without *verify* no copy is read. Raises NotFoundError for places that no device has, and UnsoundError
    when the extent tree is damaged.
    """

    def __init__(
        self,
        image: Image,
        locator: Locator,
        asked: Asked,
        *,
        text: Callable[[Strings], Strings] = lambda names: names,
        verify: bool = True,
    ) -> None:
        self._image, self._locator, self._verify = image, locator, verify
        self.chunks = list(image.volume.chunk_map)
        self._places = PlaceMap(image.volume.chunk_map)
        self._asked = asked
        self._kind, self._logical, chunk, self._number = self._place()
        starts = np.array([chunk.logical for chunk in self.chunks], np.int64)
        self._chunk = np.where(chunk == NOWHERE, NOWHERE, np.searchsorted(starts, chunk))
        mapped = self._kind == FREE
        self.scan = Scan(image, different(self._logical[mapped]), text)
        self.blocks: list[TreeBlock] = []
        self._extent = self._find_extents(mapped)
        self._copies = self._find_copies()
        self._states = np.full(len(self._copies.whose), locatestate.NONE, np.uint8)
        self.block_of_extent = self._find_blocks()  #: number in *blocks*, NOWHERE of data
        self._block = np.append(self.block_of_extent, NOWHERE)[self._extent]
        self._find_others()

    @property
    def extents(self) -> Extents:
        """Return the extents that hold some of the addresses."""
        return self.scan.extents

    def _place(self) -> tuple[Codes, Ints, Ints, Ints]:
        """Return kind, logical address, start of the chunk and number of the copy; mapped bytes are FREE so far."""
        count = len(self._asked.address)
        kind, number = np.full(count, UNALLOCATED, np.uint8), np.full(count, NOWHERE)
        logical, chunk = self._asked.address.copy(), np.full(count, NOWHERE)
        devices = DeviceMap(self._image.volume.chunk_map, self._image.volume.warn)
        for devid in different(self._asked.devid).tolist():
            here = np.flatnonzero(self._asked.devid == devid)
            address = self._asked.address[here]
            if devid == NOWHERE:
                start = self._places.starts(address.view(np.uint64))
                kind[here] = np.where(start == NOWHERE, UNALLOCATED, FREE)
                chunk[here] = start
                continue
            self._locator.require(devid, int(address.max()), 1)
            pieces = devicepieces.pieces_at(devices, devid, address)
            kind[here], logical[here] = _OF_DEVICE[pieces.kind], pieces.logical
            chunk[here], number[here] = pieces.chunk, pieces.number
        return kind, logical, chunk, number

    def _find_extents(self, mapped: Bools) -> Ints:
        """Return the extent of every address, and tell data and tree blocks from what is free."""
        extents, at = self.scan.extents, np.full(len(mapped), NOWHERE)
        if len(extents.logical):
            found = np.searchsorted(extents.logical, self._logical, "right") - 1
            inside = mapped & (found >= 0) & (self._logical - extents.logical[found] < extents.length[found])
            at[inside] = found[inside]
            self._kind[inside] = np.where(extents.level[found[inside]] < 0, DATA, TREE_BLOCK)
        return at

    def _find_copies(self) -> Copies:
        """Return the copies that are asked for."""
        allocated = self._kind <= FREE  # superblocks, too
        one = np.flatnonzero(allocated & (self._asked.devid != NOWHERE) & (self._kind != SUPERBLOCK))
        every = np.flatnonzero(allocated & (self._asked.devid == NOWHERE))
        places = self._places.locate(self._logical[every].view(np.uint64))
        count = places.copies.astype(np.int64)
        number = ranges(np.zeros(len(count), np.int64), count)
        row = np.repeat(np.arange(len(count)), count)
        whose = np.concatenate([one, every[row]])
        order = np.argsort(whose, kind="stable")
        columns = (
            whose,
            np.concatenate([self._number[one], number]),
            np.concatenate([self._asked.devid[one].astype(np.uint64), places.devid[number, row]]),
            np.concatenate([self._asked.address[one], places.physical[number, row]]),
        )
        return Copies._make(column[order] for column in columns)

    def _read_sectors(self) -> Codes:
        """Return the states of all copies: those of data, too."""
        rows = np.flatnonzero(self._kind[self._copies.whose] == DATA)
        self._states[rows] = self._sector_states(rows) if self._verify else locatestate.UNCHECKED
        return self._states

    def _sector_states(self, rows: Ints) -> Codes:
        logical = self._logical[self._copies.whose[rows]]
        within = logical % self._image.volume.sectorsize
        sector = np.searchsorted(self.scan.sectors, logical - within)
        places = Places(self._copies.devid[rows], self._copies.physical[rows] - within)
        return locatestate.sector_states(self._image, places, self.scan.sums[sector], self.scan.has_sum[sector])

    def _find_blocks(self) -> Ints:
        """Read every copy of a tree block once and fill in their states; return the block that each extent is."""
        copies, extents = self._copies, self.scan.extents
        rows = np.flatnonzero(self._kind[copies.whose] == TREE_BLOCK)
        extent = self._extent[copies.whose[rows]]
        within = self._logical[copies.whose[rows]] - extents.logical[extent]
        most = self._places.most_copies + 1
        _, first, inverse = np.unique(extent * most + copies.number[rows], return_index=True, return_inverse=True)
        own = extent[first]
        places = Places(copies.devid[rows][first], (copies.physical[rows] - within)[first])
        states, found = locatestate.block_states(self._image, places, extents, own)
        self._states[rows] = states[inverse] if self._verify else locatestate.UNCHECKED
        number = np.full(len(extents.logical), NOWHERE)
        for row, each in zip(own.tolist(), found, strict=True):
            if each and number[row] == NOWHERE:
                number[row] = len(self.blocks)
                self.blocks.append(each)
        self._name_trees(np.flatnonzero(number != NOWHERE), number)
        return number

    def _name_trees(self, extent: Ints, number: Ints) -> None:
        """Fill in the trees of the blocks of some extents."""
        forest, trees = self.scan.trees.forest, self.scan.roots
        found: dict[int, set[int]] = {}
        for level in different(self.scan.extents.level[extent]).tolist():
            here = extent[self.scan.extents.level[extent] == level]
            index, blocks = forest.blocks_at(level, self.scan.extents.logical[here].view(np.uint64))
            again, root = forest.trees_of(level, blocks)
            for row, tree in zip(here[index[again]].tolist(), trees[root].tolist(), strict=True):
                found.setdefault(row, set()).add(tree)
        for row in extent.tolist():
            at = int(number[row])
            self.blocks[at] = self.blocks[at]._replace(trees=tuple(sorted(found.get(row, ()))))

    def _find_others(self) -> None:
        """Leave to the locator what the scan cannot tell."""
        known = np.array([bool(block.trees) for block in self.blocks] + [False])
        other = (self._kind == TREE_BLOCK) & ~known[self._block]
        other |= self._kind == SUPERBLOCK
        if not self.scan.sums_are_known:
            other |= self._kind == DATA
        start, end = (np.array(column, np.int64) for column in self._locator.log_ranges())
        if len(start):
            at = np.searchsorted(start, self._logical, "right") - 1
            other |= (self._kind == FREE) & (at >= 0) & (self._logical < end[at])
        self._kind[other] = OTHER

    def answers(self) -> Iterator[Answers]:
        """Yield the answers in the order of the addresses, many at a time; to be iterated over once."""
        with ThreadPoolExecutor(1) as beside:
            reading = beside.submit(self._read_sectors)
            users, bookend = self._find_users()
            for some in portions(np.bincount(users.whose, minlength=len(bookend)), _PAIRS):
                yield self._answers(some, users, bookend, reading)

    def _answers(self, some: slice, users: _Pairs, bookend: Bools, reading: Future[Codes]) -> Answers:
        bounds = some.start, some.stop
        first, last = np.searchsorted(self._copies.whose, bounds).tolist()
        begin, end = np.searchsorted(users.whose, bounds).tolist()
        return Answers(
            some.start,
            self._kind[some],
            self._asked.devid[some],
            np.where(self._asked.devid[some] != NOWHERE, self._asked.address[some], NOWHERE),
            self._logical[some],
            self._chunk[some],
            self._extent[some],
            self._block[some],
            bookend[some],
            Copies._make(column[first:last] for column in self._copies),
            self._told(users.take(begin, end)),
            lambda: reading.result()[first:last],
        )

    def _find_users(self) -> tuple[_Pairs, Bools]:
        """Return the uses of every address, and which addresses no use reaches."""
        uses = self.scan.uses
        data = np.flatnonzero(self._kind == DATA)
        data = data[np.argsort(self._logical[data], kind="stable")]
        at, use = holders_of(self._logical[data], uses.logical, uses.reach)
        same = uses.extent[use] == self._extent[data[at]]
        whose, use = data[at[same]], use[same]
        bookend = self._kind == DATA
        bookend[whose] = False
        order = np.argsort(whose, kind="stable")
        return _Pairs(whose[order], use[order]), bookend

    def holders(self, extent: Ints) -> Users:
        """Return the file extents that use some extents, whole; ``whose`` is an index into *extent*."""
        uses = self.scan.uses
        by_extent = np.argsort(uses.extent, kind="stable")
        ordered = uses.extent[by_extent]
        first, last = (np.searchsorted(ordered, extent, side) for side in ("left", "right"))
        use = by_extent[ranges(first, last - first)]
        whose = np.repeat(np.arange(len(extent)), last - first)
        found = self._in_trees(_Pairs(whose, use))
        return found._replace(offset=uses.offset[found.use], length=uses.length[found.use])

    def _told(self, pairs: _Pairs) -> Users:
        """Return the parts of files that hold some addresses."""
        uses, found = self.scan.uses, self._in_trees(pairs)
        packed = uses.kind[found.use] == COMPRESSED
        within = np.where(packed, 0, self._logical[found.whose] - uses.logical[found.use])
        length = np.where(packed, uses.length[found.use], 1)
        return found._replace(offset=uses.offset[found.use] + within, length=length)

    def _in_trees(self, pairs: _Pairs) -> Users:
        """Return every pair once for each tree that has the use, in order; offset and length are still to be given."""
        uses, tree_rank, use_rank = self.scan.uses, self.scan.tree_rank, self.scan.use_rank
        leaves, leaf = numbered(self.scan.leaf_of_use[pairs.use], int(self.scan.leaf_of_use.max(initial=-1)) + 1)
        index, root = self.scan.trees.forest.trees_of(0, leaves)
        order = np.lexsort((tree_rank[root], index))
        index, root = index[order], root[order]
        first, last = (np.searchsorted(index, np.arange(len(leaves)), side) for side in ("left", "right"))
        count = (last - first)[leaf]
        root, pair = root[ranges(first[leaf], count)], np.repeat(np.arange(len(leaf)), count)
        whose, use = pairs.whose[pair], pairs.use[pair]
        key = (whose * (len(tree_rank) + 1) + tree_rank[root]) * (len(use_rank) + 1) + use_rank[use]
        if not (key[1:] > key[:-1]).all():  # several uses of one address, or trees of one id
            _, order = np.unique(key, return_index=True)
            whose, use, root = whose[order], use[order], root[order]
        none = np.empty(0, np.int64)
        return Users(whose, use, root, uses.inode[use], none, none, uses.kind[use], uses.compression[use])


class _Pairs(NamedTuple):
    """Addresses and uses of them, in order of address."""

    whose: Ints
    use: Ints

    def take(self, begin: int, end: int) -> _Pairs:
        """Return some of the pairs."""
        return _Pairs(self.whose[begin:end], self.use[begin:end])


def addresses(devid: int | None, values: list[int]) -> Asked:
    """Return *values* as places of one device, or as logical addresses without one."""
    column = np.array(values, np.int64)
    return Asked(np.full(len(column), NOWHERE if devid is None else devid), column)
