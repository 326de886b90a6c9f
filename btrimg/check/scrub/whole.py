"""The offline scrub: every copy of all data and tree blocks is read and judged, and all parity.

What is read is what is in use: data with checksums, as the checksum tree has them; tree blocks, as the extent tree has
them; and of data without checksums what files have written, of which copies can only be compared. What is preallocated
and not yet written may differ from copy to copy.
"""

from __future__ import annotations

import os
from contextlib import suppress
from queue import Empty, SimpleQueue
from threading import Thread, get_native_id
from typing import TYPE_CHECKING, Any

import numpy as np

from btrimg.check.schema import COPY_KINDS
from btrimg.check.scrub.badcopies import BadCopies
from btrimg.check.scrub.contents import contents
from btrimg.check.scrub.copies import MISSING, UNREADABLE, cut, cut_at
from btrimg.check.scrub.copyscrub import CopyScrub
from btrimg.check.scrub.logicalsets import NOTHING, Spans, difference, intersection, union
from btrimg.check.scrub.promised import Blocks, Sectors
from btrimg.check.scrub.rowscrub import RowScrub
from btrimg.errors import CorruptError, NotFoundError
from btrimg.filesystem.columns import COMPRESSED, REGULAR
from btrimg.ondisk.constants import STRIPE_LEN, ItemType, SuperFlag, TreeId
from btrimg.tables.schema import EXTENT_KINDS
from btrimg.trees.batches import ranges, structs_at
from btrimg.trees.block import BlockReader
from btrimg.trees.scan import Forest
from btrimg.units import round_down
from btrimg.volume.places import PlaceMap
from btrimg.volume.profiles import data_columns

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from numpy.typing import NDArray

    from btrimg.check.scrub.contents import Contents
    from btrimg.filesystem.image import Image
    from btrimg.trees.block import Pointer
    from btrimg.volume.chunkmap import MappedChunk

    Ints = NDArray[np.int64]
    Unsigned = NDArray[np.uint64]
    Columns = Mapping[str, Any]
    Progress = Callable[[int], None]

_DATA, _BLOCK, _PLAIN = map(COPY_KINDS.index, ("data", "tree block", "nodatasum"))
_TREE_BLOCK = EXTENT_KINDS.index("tree block")
_LONGEST_EXTENT = 1 << 30  # the kernel makes none above 256 MiB (fs/btrfs/inode.c __btrfs_prealloc_file_range)
_NICENESS = 10  # of the thread: the caller's work is the longer one, where the two compete for processors
_BATCH_BYTES = 1 << 32  # that are cut into pieces at once: of a sector each, a million


def scrub(image: Image, extents: Columns, file_extents: Columns, progress: Progress) -> dict[str, NDArray[Any]]:
    """Return the columns of ``bad_copies``, as ``Scrub`` does."""
    begun = Scrub(image, progress)
    try:
        begun.go_on(extents, file_extents)
        return begun.table()
    finally:
        begun.stop()


class _StoppedError(Exception):
    """Nobody waits for what is found any more."""


class Scrub:
    """Judges all copies and parity of an opened image; *progress* hears of bytes of devices that were judged.

    Copies are judged by a thread, beside the caller's other work: mostly it waits for the device, or sums up outside of
    Python's lock. Of data with checksums, nearly all there is to read, it begins at once: that takes only the checksum
    tree. For the others it waits until it is told to ``go_on``. What there is to tell is told by ``table``, and whoever
    asks for that judges along until all is done. A caller that does not come to that must ``stop``.
    """

    def __init__(self, image: Image, progress: Progress) -> None:
        self._image, self._progress = image, progress
        self._warned: list[str] = []  # by the thread, as are the errors and the counts of bytes
        self._errors: list[CorruptError] = []
        self._judged: SimpleQueue[int | None] = SimpleQueue()
        self._volume = image.volume.for_thread(self._warned.append)
        self._found = BadCopies(self._warned.append)
        self._copies = CopyScrub(self._volume, self._found, self._count)
        self._chunks = [(chunk, self._backed(chunk)) for chunk in image.volume.chunk_map]
        self._places = PlaceMap(image.volume.chunk_map)
        self._is_dump = bool(self._volume.superblock.flags & (SuperFlag.METADUMP | SuperFlag.METADUMP_V2))
        self._relations: SimpleQueue[tuple[Columns, Columns] | None] = SimpleQueue()
        self._contents: Contents | None = None
        self._failure: BaseException | None = None
        self._stopped = False
        root = None if self._is_dump else self._csum_root()
        self._thread = Thread(target=self._judge_copies, args=(root,), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread; nothing more is told of what it found."""
        self._stopped = True
        self._relations.put(None)
        self._thread.join()
        self._copies.close()

    def go_on(self, extents: Columns, file_extents: Columns) -> None:
        """Let the thread judge the rest, which the columns of these two relations tell of, with indexes of their words.

        What several subvolumes share needs to be there once.
        """
        self._relations.put((extents, file_extents))

    def table(self) -> dict[str, NDArray[Any]]:
        """Return the columns of ``bad_copies``, once all is judged, and pass on what the thread has to say.

        What cannot be read of the checksum tree is reported to the image.
        """
        for judged in self._judging():
            self._progress(judged)
        self._thread.join()
        if self._failure:
            raise self._failure
        for error in self._errors:
            self._image.report(error)
        if self._contents and any(chunk.profile.parity for chunk, _ in self._chunks):
            rows = RowScrub(self._image, self._found, self._progress, self._contents)
            for chunk, backed in self._chunks:
                if chunk.profile.parity:
                    rows.scrub(chunk, backed)
        table = self._found.table()
        for said in self._warned:
            self._image.volume.warn(said)
        return table

    def _judging(self) -> Iterator[int]:
        """Judge along with the thread; yield how many bytes more are judged until all are."""
        while True:
            try:
                judged = self._judged.get_nowait()
            except Empty:
                judged = 0 if self._copies.help() else self._judged.get()
            if judged is None:
                return
            yield judged

    def _count(self, judged: int) -> None:
        if self._stopped:
            raise _StoppedError
        self._judged.put(judged)

    def _csum_root(self) -> Pointer | None:
        try:
            return self._image.tree(TreeId.CSUM_TREE).root
        except NotFoundError:
            return None
        except CorruptError as error:
            self._errors.append(error)
            return None

    def _judge_copies(self, root: Pointer | None) -> None:
        """Judge all copies, in a thread: it has a reader of its own, and tells nobody but ``table``."""
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, get_native_id(), _NICENESS)
        try:
            checksummed = self._scrub_checksummed(root) if root is not None else NOTHING
            relations = self._relations.get()
            if relations is not None:
                self._contents = self._scrub_others(*relations, checksummed)
        except _StoppedError:
            pass
        except BaseException as error:  # raised where it is waited for
            self._failure = error
        finally:
            self._judged.put(None)

    def _scrub_others(self, extents: Columns, file_extents: Columns, checksummed: Spans) -> Contents:
        blocks, generations = self._scrub_blocks(extents)
        plain = NOTHING
        if self._is_dump:
            self._warned.append("this is a metadata dump (btrfs-image), without the data: they are not judged")
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

    def _scrub_checksummed(self, root: Pointer) -> Spans:
        """Judge data that have checksums; return where they are."""
        csum_size, sector = self._volume.csum.size, self._volume.sectorsize
        start, length = [np.empty(0, np.uint64)], [np.empty(0, np.uint64)]
        forest = Forest(BlockReader(self._volume, self._volume.fsids), [root], self._errors.append)
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

    def _scrub_blocks(self, extents: Columns) -> tuple[Unsigned, Unsigned]:
        """Judge all tree blocks; return their addresses, in order, and the generations that wrote them."""
        some = np.flatnonzero(extents["kind"] == _TREE_BLOCK)
        some = some[np.argsort(extents["logical"][some], kind="stable")]
        logical, generation = extents["logical"][some], extents["generation"][some]
        size = self._volume.nodesize
        pieces, torn = cut(self._places, logical.view(np.int64), np.full(len(logical), size), size)
        for group in pieces:
            promise = Blocks(self._volume, logical[group.numbers], generation[group.numbers])
            self._copies.judge(_BLOCK, group, promise)
        for address in logical[torn].tolist():  # the kernel's scrub passes over them, too
            self._volume.warn(f"tree block {address} lies across elements: its copies are not judged one by one")
        return logical, generation

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
            with self._copies.telling:
                self._found.add(
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
