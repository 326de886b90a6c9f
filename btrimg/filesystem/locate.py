"""What stands at a byte of a device, or at a logical address: the way back from ``resolve``."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from btrimg.errors import CorruptError, NotFoundError
from btrimg.filesystem import copystate
from btrimg.filesystem.backrefs import Backrefs
from btrimg.filesystem.extents import OFFSET_MAX
from btrimg.ondisk.constants import STRIPE_LEN
from btrimg.trees.block import Pointer
from btrimg.volume.devicemap import DeviceMap
from btrimg.volume.profiles import data_columns

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import TypeAlias

    from btrimg.filesystem.backrefs import Extent, Use
    from btrimg.filesystem.backscan import BackScan
    from btrimg.filesystem.copystate import CopyState
    from btrimg.filesystem.image import Image
    from btrimg.ondisk.blocks import Key
    from btrimg.volume.chunkmap import MappedChunk

    Owners: TypeAlias = Backrefs | BackScan


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
    way: str | None = None  #: by which the users were found: "extent tree" or "scan"

    @property
    def row_length(self) -> int:
        """Return how many bytes of data the row of a piece of parity has."""
        return data_columns(len(self.chunk.stripes), self.chunk.profile) * STRIPE_LEN if self.chunk else 0


class _Part(NamedTuple):
    """Logical addresses that are used alike."""

    logical: int
    length: int
    extent: Extent | None
    sharers: tuple[Sharer, ...] = ()


class Locator:
    """Says of any byte of an opened image what it is for.

    Users are found by the extent tree, and where that cannot be read, once and for all by a scan of all trees. Blocks
    of log trees, and data that only the log knows, count as free, as they do for the kernel until the log is replayed.
    """

    def __init__(self, image: Image) -> None:
        self._image = image
        self._devices = DeviceMap(image.volume.chunk_map, image.volume.warn)
        self._owners = self._best_owners()
        self._uses: tuple[int, list[Use]] = (-1, [])  # of the extent asked for last
        self._block: tuple[int, TreeBlock | None] = (-1, None)

    def _best_owners(self) -> Owners:
        try:
            return Backrefs(self._image)
        except (CorruptError, NotFoundError) as error:
            return self._scan(error)

    def _scan(self, error: Exception) -> Owners:
        from btrimg.filesystem.backscan import BackScan

        self._image.report(CorruptError(f"the extent tree cannot be read, all trees are scanned: {error}"))
        return BackScan(self._image)

    def on_device(self, devid: int, start: int, length: int) -> Iterator[Piece]:
        """Yield what bytes [start, start + length) of a device are, in order and without gaps.

        Raises NotFoundError when there is no such device, or it ends before.
        """
        device = self._image.volume.devices.get(devid)
        if device is None and not self._devices.knows(devid):
            raise NotFoundError(f"there is no device {devid}")
        size = device.size if device else OFFSET_MAX
        if start + length > size:
            raise NotFoundError(f"device {devid} ends at {size}: no {length} bytes at {start}")
        for piece in self._devices.pieces(devid, start, start + length):
            if piece.kind == "mapped" and piece.chunk and piece.logical is not None:
                for part in self._parts(piece.logical, piece.logical + piece.length):
                    physical = piece.physical + part.logical - piece.logical
                    found = self._piece(part, piece.chunk, (piece.number,))
                    yield found._replace(devid=devid, physical=physical)
            else:
                copies = copystate.of_device_piece(self._image, piece)
                yield Piece(piece.kind, piece.length, devid, piece.physical, piece.logical, piece.chunk, copies)

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
            return [_sharer(use, 0, use.row.length) for use in self._uses_of(piece.extent)]
        return list(piece.sharers)

    def _parts(self, start: int, end: int) -> Iterator[_Part]:
        """Yield [start, end) cut wherever its users change."""
        while start < end:
            try:
                for extent in self._owners.extents(start, end):
                    first, last = max(extent.logical, start), min(extent.logical + extent.length, end)
                    if first >= last:
                        continue
                    if first > start:
                        yield _Part(start, first - start, None)
                        start = first
                    yield from self._parts_of(extent, first, last)
                    start = last
                if start < end:
                    yield _Part(start, end - start, None)
                return
            except CorruptError as error:
                if not isinstance(self._owners, Backrefs):
                    raise
                self._owners = self._scan(error)

    def _parts_of(self, extent: Extent, start: int, end: int) -> Iterator[_Part]:
        if extent.level is not None:
            yield _Part(start, end - start, extent)
            return
        waiting = sorted(((*_reach(use, extent), use) for use in self._uses_of(extent)), key=lambda each: -each[0])
        edges = {start, end}.union(*((first, last) for first, last, _ in waiting))
        here: list[tuple[int, int, Use]] = []
        for at, following in pairwise(sorted(edge for edge in edges if start <= edge <= end)):
            while waiting and waiting[-1][0] <= at:
                here.append(waiting.pop())
            here = [each for each in here if each[1] > at]
            sharers = (_sharer(use, at - first, following - at) for first, _, use in here)
            yield _Part(at, following - at, extent, tuple(sorted(sharers)))

    def _uses_of(self, extent: Extent) -> list[Use]:
        if self._uses[0] != extent.logical:
            self._uses = (extent.logical, self._owners.uses(extent))
        return self._uses[1]

    def _piece(self, part: _Part, chunk: MappedChunk, numbers: Iterable[int]) -> Piece:
        extent = part.extent
        copies = tuple(copystate.of_copy(self._image, part.logical, part.length, extent, number) for number in numbers)
        found = Piece("free", part.length, logical=part.logical, chunk=chunk, copies=copies, way=self._owners.way)
        if extent is None:
            return found
        if extent.level is not None:
            return found._replace(
                kind="tree block", extent=extent, block=self._tree_block(extent.logical, extent.level)
            )
        bookend = not part.sharers
        holders = tuple(_sharer(use, 0, use.row.length) for use in self._uses_of(extent)) if bookend else ()
        return found._replace(kind="data", extent=extent, sharers=part.sharers, bookend=bookend, holders=holders)

    def _tree_block(self, logical: int, level: int) -> TreeBlock | None:
        """Return what stands in a tree block; None, which the image hears of, when no copy is good."""
        if self._block[0] != logical:
            self._block = (logical, None)
            try:
                block = self._image.blocks.read(Pointer(logical, level))
            except CorruptError as error:
                self._image.report(error)
            else:
                header = block.header
                first, last = (block.key(0), block.key(-1)) if block.slots else (None, None)
                trees = tuple(sorted(self._owners.trees(block)))
                self._block = (logical, TreeBlock(level, header.generation, header.owner, trees, first, last))
        return self._block[1]


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
