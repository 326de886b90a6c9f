"""The offline scrub: every copy of all data and tree blocks is judged, and all parity.

What is read is what is in use: data with checksums, as the checksum tree has them; tree blocks, as the extent tree has
them; and of data without checksums what files have written, of which copies can only be compared. What is preallocated
and not yet written may differ from copy to copy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from btrimg.check.schema import COPY_KINDS
from btrimg.check.scrub.badcopies import BadCopies
from btrimg.check.scrub.contents import contents
from btrimg.check.scrub.copies import MISSING, UNREADABLE, cut, cut_at
from btrimg.check.scrub.copyscrub import CopyScrub
from btrimg.check.scrub.logicalsets import NOTHING, Spans, difference, intersection, union
from btrimg.check.scrub.promised import Blocks, Sectors
from btrimg.check.scrub.rowscrub import RowScrub
from btrimg.filesystem.columns import COMPRESSED, REGULAR
from btrimg.filesystem.csums import Csums
from btrimg.filesystem.treepaths import find
from btrimg.ondisk.constants import STRIPE_LEN, ItemType, SuperFlag, TreeId
from btrimg.tables.schema import EXTENT_KINDS
from btrimg.trees.batches import ranges, structs_at
from btrimg.trees.block import BlockReader
from btrimg.trees.scan import Forest
from btrimg.trees.tree import Tree
from btrimg.units import round_down
from btrimg.volume.places import PlaceMap
from btrimg.volume.profiles import data_columns

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from btrimg.check.scrub.contents import Contents
    from btrimg.check.scrub.copies import Pieces
    from btrimg.check.scrub.told import Columns
    from btrimg.errors import CorruptError
    from btrimg.trees.block import Pointer
    from btrimg.volume.chunkmap import MappedChunk
    from btrimg.volume.volume import Volume

    Ints = NDArray[np.int64]
    Unsigned = NDArray[np.uint64]
    Progress = Callable[[int], None]

_DATA, _BLOCK, _PLAIN = map(COPY_KINDS.index, ("data", "tree block", "nodatasum"))
_TREE_BLOCK = EXTENT_KINDS.index("tree block")
_LONGEST_EXTENT = 1 << 30  # the kernel makes none above 256 MiB (fs/btrfs/inode.c __btrfs_prealloc_file_range)
_BATCH_BYTES = 1 << 32  # that are cut into pieces at once: of a sector each, a million


class Scrub:
    """Judges all copies and parity of a *volume*, data with checksums by the tree at *csum_root*.

    *judged* hears of bytes of devices that were judged; in ``found`` is what was found, in ``errors`` what cannot be
    read of the checksum tree.
    """

    def __init__(self, volume: Volume, csum_root: Pointer | None, judged: Progress) -> None:
        self.errors: list[CorruptError] = []
        self._volume, self._judged = volume, judged
        self.found = BadCopies(volume.warn)
        self._copies = CopyScrub(volume, self.found, judged)
        self._chunks = [(chunk, self._backed(chunk)) for chunk in volume.chunk_map]
        self._places = PlaceMap(volume.chunk_map)
        self._is_dump = bool(volume.superblock.flags & (SuperFlag.METADUMP | SuperFlag.METADUMP_V2))
        self._csums = None if self._is_dump or csum_root is None else Tree(BlockReader(volume, volume.fsids), csum_root)

    def close(self) -> None:
        """Close what was opened; nothing is judged any more."""
        self._copies.close()

    def judge(self, told: Iterator[Columns]) -> None:
        """Judge all there is: data with checksums at once, the rest when what is ``Told`` of it comes, one by one."""
        checksummed = self._scrub_checksummed(self._csums) if self._csums else NOTHING
        written = self._scrub_others(told, checksummed)
        csums = Csums(self._csums, self._volume.csum.size, self._volume.sectorsize) if self._csums else None
        rows = RowScrub(self._volume, self.found, self._judged, written, csums)
        for chunk, backed in self._chunks:
            if chunk.profile.parity:
                rows.scrub(chunk, backed)

    def _scrub_others(self, told: Iterator[Columns], checksummed: Spans) -> Contents:
        extents = next(told)
        some = np.flatnonzero(extents["kind"] == _TREE_BLOCK)
        some = some[np.argsort(extents["logical"][some], kind="stable")]
        blocks, generations = extents["logical"][some], extents["generation"][some]
        doubted = self._doubted(blocks, generations)
        file_extents, sound = told
        self._scrub_blocks(blocks, generations, doubted, sound)
        plain = NOTHING
        if self._is_dump:
            self._volume.warn("this is a metadata dump (btrfs-image), without the data: they are not judged")
        else:
            plain = self._scrub_plain(extents, file_extents, checksummed)
        return contents(checksummed, plain, blocks, generations, self._volume.nodesize)

    def _backed(self, chunk: MappedChunk) -> int:
        """Return how many bytes of a chunk, from its start on, can lie within the devices that are there."""
        devices = self._volume.devices
        longest = max((devices[s.devid].size - s.offset for s in chunk.stripes if s.devid in devices), default=0)
        if chunk.striped:
            columns = data_columns(len(chunk.stripes), chunk.profile)
            longest = -(-longest // STRIPE_LEN) * STRIPE_LEN * columns
        return min(chunk.length, round_down(max(longest, 0), self._volume.sectorsize))

    def _scrub_checksummed(self, csums: Tree) -> Spans:
        """Judge data that have checksums; return where they are."""
        csum_size, sector = self._volume.csum.size, self._volume.sectorsize
        start, length = [np.empty(0, np.uint64)], [np.empty(0, np.uint64)]
        forest = Forest(csums.blocks, [csums.root], self.errors.append)
        for batch in forest.leaves():
            items = batch.of_type(ItemType.EXTENT_CSUM)
            items = items.take(items.objectid == TreeId.EXTENT_CSUM)
            items = items.take(np.argsort(items.offset, kind="stable"))
            count = items.size // csum_size
            spans = union(items.offset, (count * sector).view(np.uint64))
            start.append(spans.start.view(np.uint64))
            length.append((spans.end - spans.start).view(np.uint64))
            sums = structs_at(items.data, csum_size, _each(items.position, count, csum_size))
            pieces, _ = cut(self._places, items.offset.view(np.int64), count * sector, sector)
            for some in pieces:
                self._copies.judge(_DATA, some, Sectors(self._volume, some, sums))
        return union(np.concatenate(start), np.concatenate(length))

    def _doubted(self, logical: Unsigned, generation: Unsigned) -> NDArray[np.bool_]:
        """Return of which tree blocks a copy after the first may not be sound, or lies across elements."""
        doubted = np.zeros(len(logical), np.bool_)
        several, torn = self._blocks(logical, generation)
        doubted[torn] = True
        for pieces, promise in several:
            doubted[self._copies.doubted(pieces, promise)] = True
        return doubted

    def _scrub_blocks(
        self, logical: Unsigned, generation: Unsigned, doubted: NDArray[np.bool_], sound: Columns
    ) -> None:
        """Judge all tree blocks, but for those that are *sound* and not *doubted*."""
        at = find(sound["logical"], logical)
        known = (at >= 0) & (np.append(sound["generation"], 0)[at] == generation)  # the last one is for number -1
        known &= ~doubted
        self._judged(int(known.sum()) * self._volume.nodesize)
        logical, generation = logical[~known], generation[~known]
        several, torn = self._blocks(logical, generation)
        for pieces, promise in several:
            self._copies.judge(_BLOCK, pieces, promise, pieces.copies - 1)
        for address in logical[torn].tolist():  # the kernel's scrub passes over them, too
            self._volume.warn(f"tree block {address} lies across elements: its copies are not judged one by one")

    def _blocks(self, logical: Unsigned, generation: Unsigned) -> tuple[list[tuple[Pieces, Blocks]], Ints]:
        """Return the pieces of tree blocks, each with what is promised of it; and which lie across elements."""
        size = self._volume.nodesize
        several, torn = cut(self._places, logical.view(np.int64), np.full(len(logical), size), size)
        promises = (Blocks(self._volume, logical[some.numbers], generation[some.numbers]) for some in several)
        return list(zip(several, promises, strict=True)), torn

    def _scrub_plain(self, extents: Columns, file_extents: Columns, checksummed: Spans) -> Spans:
        """Compare the copies of data that files have written without checksums; return where they are."""
        sector, data = self._volume.sectorsize, extents["kind"] != _TREE_BLOCK
        length = np.minimum(extents["length"][data], np.uint64(_LONGEST_EXTENT))
        plain = difference(union(extents["logical"][data], length), checksummed)
        if not len(plain.start):
            return plain
        plain = intersection(plain, _written(file_extents))
        starts = np.array([chunk.logical for chunk, _ in self._chunks], np.uint64)
        backed = union(starts, np.array([length for _, length in self._chunks], np.uint64))
        self._tell_unbacked(difference(plain, backed))
        plain = intersection(plain, backed)
        for start, length in _batches(plain):
            pieces, _ = cut(self._places, start, length - length % sector, sector)
            for group in pieces:
                self._copies.compare(_PLAIN, group)
        return plain

    def _tell_unbacked(self, spans: Spans) -> None:
        """Tell of data on devices that are missing or too short, by ranges: pieces of them there may be too many."""
        at = self._places.locate(spans.start.view(np.uint64))
        devids = np.array(list(self._volume.devices), np.uint64)
        for copy in range(self._places.most_copies):
            some = np.flatnonzero(at.copies > copy)
            if not len(some):
                continue
            self.found.add(
                _PLAIN,
                state=np.where(np.isin(at.devid[copy, some], devids), UNREADABLE, MISSING),
                mirror=copy + 1,
                intact=0,
                devid=at.devid[copy, some],
                physical=at.physical[copy, some],
                length=(spans.end - spans.start)[some],
                logical=spans.start[some],
            )


def _each(first: Ints, count: Ints, size: int) -> Ints:
    """Return the positions of the *count* structures of *size* bytes that stand side by side from each *first* on."""
    return np.repeat(first, count) + ranges(np.zeros(len(count), np.int64), count) * size


def _written(file_extents: Columns) -> Spans:
    """Return the parts of extents that files have written and still use."""
    kind = file_extents["kind"]
    some = np.flatnonzero((kind == COMPRESSED) | (kind == REGULAR))
    whole = kind[some] == COMPRESSED
    start = file_extents["extent"][some] + np.where(whole, 0, file_extents["extent_offset"][some])
    length = np.where(whole, file_extents["extent_length"][some], file_extents["length"][some])
    return union(start.view(np.uint64), np.minimum(length, _LONGEST_EXTENT).view(np.uint64))


def _batches(spans: Spans) -> Iterator[tuple[Ints, Ints]]:
    """Yield start and length of ranges in parts of bounded size."""
    length = spans.end - spans.start
    at = np.cumsum(length) - length
    start, length, span, done = cut_at(_BATCH_BYTES, at, spans.start, length)
    batch = (at[span] + done) // _BATCH_BYTES
    for some in np.split(np.arange(len(batch)), np.flatnonzero(np.diff(batch)) + 1):
        yield start[some], length[some]
