"""File extents of an inode put, replaced and read, while a transaction is under way (fs/btrfs/file.c).

References to extents are not counted here: the commit sees by the items what came and went.
"""

from __future__ import annotations

import stat

from btrimg.errors import CorruptError, RefusedError
from btrimg.filesystem.csums import Csums
from btrimg.filesystem.data import row_bytes
from btrimg.filesystem.edit_extents import drop_extents, overlapping
from btrimg.filesystem.extents import OFFSET_MAX, row_of_item
from btrimg.named import NamedTuple
from btrimg.ondisk.blocks import Key
from btrimg.ondisk.constants import Compression, FileExtentType, InodeFlag, ItemType, TreeId
from btrimg.ondisk.extents import FileExtent, FileExtentInline
from btrimg.units import round_down, round_up
from btrimg.write import inodes
from btrimg.write.inline import MAX_INLINE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from typing import TypeAlias

    from btrimg.filesystem.extents import FileExtentRow
    from btrimg.ondisk.inodes import InodeItem
    from btrimg.volume.volume import Volume
    from btrimg.write.data import DataSink
    from btrimg.write.files import Files

    Piece: TypeAlias = tuple[int, FileExtent | FileExtentInline]  # file offset, and what stands there

# Numbers, because an operation of an IntFlag takes 1 us, and because of what is said in `names`.
_EXTENT_DATA = int(ItemType.EXTENT_DATA)
_NODATASUM, _VERITY = int(InodeFlag.NODATASUM), int(InodeFlag.VERITY)
_NOT_COMPRESSED = int(InodeFlag.NODATASUM | InodeFlag.NODATACOW)


class Storage(NamedTuple):
    """How the data of a file are stored; as :class:`btrimg.write.data.DataSink` has it."""

    sink: DataSink
    compression: int = Compression.NONE
    level: int | None = None
    max_inline: int = MAX_INLINE  #: 0: nothing is stored inline
    pieces: int = 1
    at: int | None = None  #: logical address wanted

    def inline(self, data: bytes, flags: int) -> FileExtentInline | None:
        """Return the inline extent of a file that is *data*; *flags* are those of its inode."""
        compression = self._compression(flags)
        return self.sink.inline(data, compression=compression, level=self.level, max_inline=self.max_inline)

    def store(self, data: bytes, offset: int, flags: int) -> list[Piece]:
        """Store *data* for a file from *offset* on, a multiple of the sector size; return the pieces."""
        nodatasum = bool(flags & _NODATASUM)
        extents = self.sink.store(
            data,
            compression=self._compression(flags),
            level=self.level,
            nodatasum=nodatasum,
            at=self.at,
            pieces=self.pieces,
        )
        return placed(extents, offset)

    def _compression(self, flags: int) -> int:
        return Compression.NONE if flags & _NOT_COMPRESSED else self.compression


def placed(extents: Iterable[FileExtent], offset: int) -> list[Piece]:
    """Return *extents* as pieces of a file, one after the other from *offset* on."""
    pieces: list[Piece] = []
    for extent in extents:
        pieces.append((offset, extent))
        offset += extent.num_bytes
    return pieces


def hole(generation: int, length: int) -> FileExtent:
    """Return the file extent of a hole, which a filesystem without NO_HOLES needs."""
    return FileExtent(generation, length, Compression.NONE, 0, 0, FileExtentType.REGULAR, 0, 0, 0, length)


def lay(files: Files, ino: int, size: int, pieces: Sequence[Piece]) -> int:
    """Put the extents of a new file of *size* bytes, *pieces* in order; return its ``nbytes``.

    Nothing is looked up, and the inode item is the caller's. Raises RefusedError when they end where no file does.
    """
    if not files.no_holes:
        pieces = list(_with_holes(files, 0, round_up(size, files.sectorsize), pieces))
    if pieces and isinstance(pieces[-1][1], FileExtent):
        check_end(pieces[-1][0] + pieces[-1][1].num_bytes, files.sectorsize)
    put = files.tree.put
    nbytes = 0
    for offset, extent in pieces:
        put(Key(ino, _EXTENT_DATA, offset), extent.pack())
        nbytes += _bytes_of(extent)
    return nbytes


def _bytes_of(extent: FileExtent | FileExtentInline) -> int:
    """Return what an extent counts in ``nbytes``."""
    if isinstance(extent, FileExtentInline):
        return extent.ram_bytes
    return extent.num_bytes if extent.disk_bytenr else 0


def _with_holes(files: Files, start: int, end: int, pieces: Iterable[Piece]) -> Iterator[Piece]:
    """Yield *pieces* in order, and holes for what they leave of [start, end)."""
    cursor = start
    for offset, extent in pieces:
        if offset > cursor:
            yield cursor, hole(files.generation, offset - cursor)
        yield offset, extent
        length = files.sectorsize if isinstance(extent, FileExtentInline) else extent.num_bytes
        cursor = offset + length
    if end > cursor:
        yield cursor, hole(files.generation, end - cursor)


def replace(files: Files, ino: int, start: int, end: int, pieces: Sequence[Piece], size: int) -> int:
    """Make *pieces* what bytes [start, end) of a file consist of; return by how much its ``nbytes`` grow.

    Both are multiples of the sector size; *size* is that of the file from now on: beyond it no item stands for a hole.
    Inline data that reach into the range lie in it whole. The inode item is the caller's.
    """
    tree = files.tree
    grown = -drop_extents(tree, ino, start, end)
    if not files.no_holes:
        pieces = list(_with_holes(files, start, min(end, round_up(size, files.sectorsize)), pieces))
    for offset, extent in pieces:
        tree.put(Key(ino, ItemType.EXTENT_DATA, offset), extent.pack())
        grown += _bytes_of(extent)
    return grown


def regular(files: Files, ino: int) -> InodeItem:
    """Return the inode item of a file whose data may be changed.

    Raises NotFoundError when there is none, RefusedError when it is no regular file, or sealed by fs-verity,
    CorruptError when no file can be as large.
    """
    item = inodes.read(files, ino)
    if item.size > OFFSET_MAX:
        raise CorruptError(f"inode {ino} of subvolume {files.id} has a size of {item.size}")
    if not stat.S_ISREG(item.mode):
        raise RefusedError(f"inode {ino} of subvolume {files.id} is no regular file: it has no data to change")
    if item.flags & _VERITY:
        raise RefusedError(f"inode {ino} of subvolume {files.id} is sealed by fs-verity: its data cannot change")
    return item


def check_range(offset: int, length: int) -> int:
    """Return the end of a range of a file.

    Raises RefusedError when no file can have it.
    """
    if offset < 0 or length < 0 or offset + length > OFFSET_MAX:
        raise RefusedError(f"{length} bytes at {offset} do not fit a file, which ends at {OFFSET_MAX} at the latest")
    return offset + length


def check_data(files: Files, offset: int, length: int) -> int:
    """Return the end of a range of a file in which data are to be stored.

    Raises RefusedError when no file can have it, or no whole sectors there.
    """
    end = check_range(offset, length)
    check_end(end, files.sectorsize)
    return end


def check_end(end: int, sectorsize: int) -> None:
    """Raise RefusedError when the sector that data end in reaches beyond what a file can have."""
    last = round_down(OFFSET_MAX, sectorsize)
    if end > last:
        raise RefusedError(f"data that end at {end} do not fit a file, whose last whole sector ends at {last}")


# Reading


class _UnderWay(NamedTuple):
    """Where the data of a transaction under way are read."""

    volume: Volume
    csums: Csums


def items(files: Files, ino: int, start: int, end: int) -> list[tuple[FileExtentRow, bytes]]:
    """Return the file extents that reach into [start, end), each with the payload of its item; gaps have none.

    One that ends where no file can have a byte has its last sector whole: what is made of it is a whole extent, too.
    """
    found = (
        (row_of_item(key, payload), payload)
        for key, payload in overlapping(files.tree, Key(ino, ItemType.EXTENT_DATA, 0), start, end)
    )
    return [
        (row._replace(length=row.length + (row.end == OFFSET_MAX)), payload)
        for row, payload in found
        if row.end > start
    ]


def rows(files: Files, ino: int, start: int, end: int) -> list[FileExtentRow]:
    """Return the file extents that reach into [start, end), as the items say; gaps have no row."""
    return [row for row, _ in items(files, ino, start, end)]


def read(files: Files, ino: int, start: int, end: int, sink: DataSink) -> bytes:
    """Return bytes [start, end) of a file, zeros where it has none; errors are those of ``filesystem.data.read``.

    What this transaction wrote has no checksums in the tree yet, and is not verified.
    """
    item = inodes.read(files, ino)
    parts: list[bytes] = []
    cursor = start
    for row in rows(files, ino, start, min(end, item.size)):
        first, last = max(row.offset, start), min(row.end, end, item.size)
        if first < last:
            parts += (bytes(first - cursor), row_data(files, row, first, last, sink, item.flags))
            cursor = last
    parts.append(bytes(end - cursor))
    return b"".join(parts)


def row_data(files: Files, row: FileExtentRow, first: int, last: int, sink: DataSink, flags: int) -> bytes:
    """Return file bytes [first, last) of *row*, of an inode with these *flags*."""
    ours = row.extent is not None and row.extent.generation == files.generation
    if ours:
        sink.flush()
    volume = files.txn.volume
    csums = Csums(files.txn.tree(TreeId.CSUM_TREE), volume.csum.size, volume.sectorsize)
    return row_bytes(_UnderWay(volume, csums), row, first, last, verify=not ours and not flags & _NODATASUM)


def has_data_beyond(files: Files, ino: int, start: int) -> bool:
    """Return whether a file has an extent at or behind *start*."""
    return bool(rows(files, ino, start, OFFSET_MAX))


def sectors_around(files: Files, start: int, end: int) -> tuple[int, int]:
    """Return [start, end) widened to whole sectors."""
    return round_down(start, files.sectorsize), round_up(end, files.sectorsize)
