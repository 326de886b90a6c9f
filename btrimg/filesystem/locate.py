"""What stands at a byte of a device, or at a logical address: the way back from ``resolve``."""

from __future__ import annotations

from itertools import pairwise

from btrimg.errors import CorruptError, NotFoundError
from btrimg.filesystem import copystate
from btrimg.filesystem.backrefs import Backrefs
from btrimg.filesystem.extents import OFFSET_MAX
from btrimg.named import NamedTuple
from btrimg.ondisk.constants import STRIPE_LEN
from btrimg.trees.block import Pointer
from btrimg.volume.devicemap import DeviceMap
from btrimg.volume.profiles import data_columns

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import TypeAlias

    from btrimg.filesystem.backrefs import Extent, Use
    from btrimg.filesystem.backscan import BackScan
    from btrimg.filesystem.copystate import CopyState
    from btrimg.filesystem.image import Image
    from btrimg.filesystem.logextents import LogTrees
    from btrimg.ondisk.blocks import Key
    from btrimg.trees.block import Block
    from btrimg.volume.chunkmap import MappedChunk

    Owners: TypeAlias = Backrefs | BackScan | LogTrees


class TreeBlock(NamedTuple):
    """What a tree block says of itself, and the trees that it is part of."""

    level: int
    generation: int  #: transid that wrote it
    owner: int  #: tree that it was allocated for
    trees: tuple[int, ...]  #: ids
    first_key: Key | None  #: None in an empty leaf
    last_key: Key | None


class Sharer(NamedTuple):
    """A part of a file that a piece belongs to."""

    subvolume: int  #: id of the tree of files
    inode: int
    offset: int  #: in the file, of the piece's first byte; of the file extent's where that is compressed
    length: int  #: bytes of the file
    kind: str  #: regular, prealloc or compressed
    compression: int  #: Compression


class Piece(NamedTuple):
    """Bytes that are side by side and have one answer."""

    kind: str  #: superblock, tree block, data, parity, free, reserved or unallocated
    length: int  #: bytes, at least 1
    devid: int | None = None  #: that was asked for; None when a logical address was
    physical: int | None = None
    logical: int | None = None  #: of the first byte; for parity, of the first byte of its row
    chunk: MappedChunk | None = None
    copies: tuple[CopyState, ...] = ()  #: that were asked for: the one on the device, or all
    extent: Extent | None = None  #: that it is part of
    block: TreeBlock | None = None
    sharers: tuple[Sharer, ...] = ()
    bookend: bool = False  #: whether no file reaches these bytes of an extent that is kept for its other bytes
    holders: tuple[Sharer, ...] = ()  #: of a bookend, the file extents that keep it, whole
    way: str | None = None  #: by which the users were found: "extent tree", "scan" (of all trees) or "log"

    @property
    def row_length(self) -> int:
        """Return how many bytes of data the row of a piece of parity has."""
        return data_columns(len(self.chunk.stripes), self.chunk.profile) * STRIPE_LEN if self.chunk else 0


class _Part(NamedTuple):
    """Logical addresses that are used alike."""

    logical: int
    length: int
    owners: Owners
    extent: Extent | None = None
    sharers: tuple[Sharer, ...] = ()


class Locator:
    """Says of any byte of an opened image what it is for.

    Users are found by the extent tree, and where that cannot be read, once and for all by a scan of all trees. Log
    trees, and data that only they know, are named too: for the extent tree they are free until the log is replayed.
    Without *verify* no copy is compared with its checksum.
    """

    def __init__(self, image: Image, *, verify: bool = True) -> None:
        self._image, self._verify = image, verify
        self._devices = DeviceMap(image.volume.chunk_map, image.volume.warn)
        self._owners = self._best_owners()
        self._log = self._log_trees() if image.superblock.log_root else None
        self._uses: tuple[int, list[Use]] = (-1, [])  # of the extent asked for last
        self._block: tuple[int, TreeBlock | None] = (-1, None)

    def _best_owners(self) -> Owners:
        try:
            return Backrefs(self._image)
        except (CorruptError, NotFoundError) as error:
            return self._scan(error)

    def _log_trees(self) -> LogTrees:
        from btrimg.filesystem.logextents import LogTrees

        return LogTrees(self._image)

    def _scan(self, error: Exception) -> Owners:
        from btrimg.filesystem.backscan import BackScan

        self._image.report(CorruptError(f"the extent tree cannot be read, all trees are scanned: {error}"))
        return BackScan(self._image)

    def on_device(self, devid: int, start: int, length: int) -> Iterator[Piece]:
        """Yield what bytes [start, start + length) of a device are, in order and without gaps.

        Raises NotFoundError when there is no such device, or it ends before.
        """
        self.require(devid, start, length)
        for piece in self._devices.pieces(devid, start, start + length):
            if piece.kind == "mapped" and piece.chunk and piece.logical is not None:
                for part in self._parts(piece.logical, piece.logical + piece.length):
                    physical = piece.physical + part.logical - piece.logical
                    found = self._piece(part, piece.chunk, (piece.number,))
                    yield found._replace(devid=devid, physical=physical)
            else:
                copies = copystate.of_device_piece(self._image, piece)
                yield Piece(piece.kind, piece.length, devid, piece.physical, piece.logical, piece.chunk, copies)

    def require(self, devid: int, start: int, length: int) -> None:
        """Raise NotFoundError when there is no such device, or it ends before [start, start + length) does."""
        device = self._image.volume.devices.get(devid)
        if device is None and not self._devices.knows(devid):
            raise NotFoundError(f"there is no device {devid}")
        size = device.size if device else OFFSET_MAX
        if start + length > size:
            raise NotFoundError(f"device {devid} ends at {size}: no {length} bytes at {start}")

    def log_ranges(self) -> tuple[list[int], list[int]]:
        """Return starts and ends of the addresses of log trees, and of the data that they know, in order."""
        return self._log.ranges() if self._log else ([], [])

    def at_logical(self, start: int, length: int) -> Iterator[Piece]:
        """Yield what logical addresses [start, start + length) are, in order and without gaps."""
        end = start + length
        chunks = self._image.volume.chunk_map
        while start < end:
            try:
                chunk = chunks.find(start)
            except CorruptError:
                following = min((chunk.logical for chunk in chunks if chunk.logical > start), default=end)
                yield Piece("unallocated", min(following, end) - start, logical=start)
                start = min(following, end)
                continue
            stop = min(end, start + chunk.locate(start).length)
            for part in self._parts(start, stop):
                yield self._piece(part, chunk, range(chunk.profile.copies))
            start = stop

    def users(self, logical: int, *, ignore_offset: bool = False) -> list[Sharer]:
        """Return the parts of files that use the byte at *logical*, as the kernel's LOGICAL_INO does.

        With *ignore_offset*, all file extents that use any byte of its extent, from their start. Raises NotFoundError
        when there is no data extent.
        """
        piece = next(self.at_logical(logical, 1))
        if piece.kind != "data" or piece.extent is None:
            raise NotFoundError(f"logical address {logical} is in no data extent: {piece.kind}")
        if ignore_offset:
            return [_sharer(use, 0, use.row.length) for use in self._uses_of(self._owners, piece.extent)]
        return list(piece.sharers)

    def _parts(self, start: int, end: int) -> Iterator[_Part]:
        """Yield [start, end) cut wherever its users change."""
        while start < end:
            try:
                for part in self._split(self._owners, start, end):
                    start = part.logical + part.length
                    if part.extent is None and self._log:
                        yield from self._split(self._log, part.logical, start)
                    else:
                        yield part
                return
            except CorruptError as error:
                if not isinstance(self._owners, Backrefs):
                    raise
                self._owners = self._scan(error)

    def _split(self, owners: Owners, start: int, end: int) -> Iterator[_Part]:
        for extent in owners.extents(start, end):
            first, last = max(extent.logical, start), min(extent.logical + extent.length, end)
            if first >= last:
                continue
            if first > start:
                yield _Part(start, first - start, owners)
            if extent.level is None:
                yield from self._split_data(owners, extent, first, last)
            else:
                yield _Part(first, last - first, owners, extent)
            start = last
        if start < end:
            yield _Part(start, end - start, owners)

    def _split_data(self, owners: Owners, extent: Extent, start: int, end: int) -> Iterator[_Part]:
        uses = self._uses_of(owners, extent)
        waiting = sorted(((*_reach(use, extent), use) for use in uses), key=lambda each: -each[0])
        edges = {start, end}.union(*((first, last) for first, last, _ in waiting))
        here: list[tuple[int, int, Use]] = []
        for at, following in pairwise(sorted(edge for edge in edges if start <= edge <= end)):
            while waiting and waiting[-1][0] <= at:
                here.append(waiting.pop())
            here = [each for each in here if each[1] > at]
            sharers = (_sharer(use, at - first, following - at) for first, _, use in here)
            yield _Part(at, following - at, owners, extent, tuple(sorted(sharers)))

    def _uses_of(self, owners: Owners, extent: Extent) -> list[Use]:
        if self._uses[0] != extent.logical:
            self._uses = (extent.logical, owners.uses(extent))
        return self._uses[1]

    def _piece(self, part: _Part, chunk: MappedChunk, numbers: Iterable[int]) -> Piece:
        extent, owners, image = part.extent, part.owners, self._image
        block = self._tree_block(owners, extent) if extent and extent.level is not None else None
        judged = extent._replace(generation=block.generation) if extent and block else extent
        copies = tuple(
            copystate.of_copy(image, part.logical, part.length, judged, number, verify=self._verify)
            for number in numbers
        )
        found = Piece("free", part.length, logical=part.logical, chunk=chunk, copies=copies, way=self._owners.way)
        if extent is None:
            return found
        found = found._replace(extent=extent, way=owners.way)
        if extent.level is not None:
            return found._replace(kind="tree block", block=block)
        bookend = not part.sharers
        uses = self._uses_of(owners, extent) if bookend else ()
        holders = tuple(_sharer(use, 0, use.row.length) for use in uses)
        return found._replace(kind="data", sharers=part.sharers, bookend=bookend, holders=holders)

    def _tree_block(self, owners: Owners, extent: Extent) -> TreeBlock | None:
        """Return what stands in a tree block; None, which the image hears of, when no copy is good."""
        if self._block[0] != extent.logical:
            self._block = (extent.logical, None)
            try:
                block = self._read_block(extent)
            except CorruptError as error:
                self._image.report(error)
            else:
                header = block.header
                first, last = (block.key(0), block.key(-1)) if block.slots else (None, None)
                trees = tuple(sorted(owners.trees(block)))
                found = TreeBlock(header.level, header.generation, header.owner, trees, first, last)
                self._block = (extent.logical, found)
        return self._block[1]

    def _read_block(self, extent: Extent) -> Block:
        """Return the block that was written last: a copy that missed that write is sound in itself, but older.

        Where no copy is of the generation that the extent item says, that may be what is wrong.
        """
        promise = Pointer(extent.logical, extent.level or 0, extent.generation)
        try:
            return self._image.blocks.read(promise)
        except CorruptError:
            return self._image.blocks.read(promise._replace(generation=None))


def _reach(use: Use, extent: Extent) -> tuple[int, int]:
    """Return the logical addresses [first, last) that a file extent reaches."""
    row = use.row
    if row.kind == "compressed" or row.logical is None:
        return extent.logical, extent.logical + extent.length
    return row.logical, row.logical + row.length


def _sharer(use: Use, skipped: int, length: int) -> Sharer:
    row = use.row
    if row.kind == "compressed":
        return Sharer(use.tree, use.ino, row.offset, row.length, row.kind, row.compression)
    return Sharer(use.tree, use.ino, row.offset + skipped, length, row.kind, row.compression)
