"""Files that share extents: ranges of one cloned into another, by the kernel's rules (fs/btrfs/reflink.c)."""

from __future__ import annotations

from btrimg.errors import RefusedError
from btrimg.ondisk.constants import InodeFlag
from btrimg.ondisk.extents import FileExtent, FileExtentInline
from btrimg.units import round_up
from btrimg.write import fileextents
from btrimg.write.contents import expand, touch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from btrimg.filesystem.extents import FileExtentRow
    from btrimg.ondisk.inodes import InodeItem
    from btrimg.write.fileextents import Piece, Storage
    from btrimg.write.files import Files

_NODATASUM = int(InodeFlag.NODATASUM)


def clone_range(
    source: Files, source_ino: int, offset: int, length: int, target: Files, ino: int, at: int, storage: Storage
) -> None:
    """Let *length* bytes at *offset* of one file be shared by another from *at* on; 0 means up to the end.

    Both offsets are multiples of the sector size, and so is *length* unless it ends where the file ends. What the
    target had there goes; it grows if need be. Inline data are copied. A new file that shares all of another is made
    faster with :func:`whole` and :func:`fileextents.lay`.
    Raises RefusedError where the kernel does.
    """
    item = fileextents.regular(target, ino)
    origin, length = check(source, source_ino, offset, length, item.size, item.flags, at)
    span = round_up(length, source.sectorsize)
    if (source.id, source_ino) == (target.id, ino) and offset < at + span and at < offset + span:
        raise RefusedError(f"inode {ino}: [{offset}, +{length}) and [{at}, +{length}) overlap, so they cannot share")
    if not length:
        return
    pieces: list[Piece] = []
    for row, payload in fileextents.items(source, source_ino, offset, offset + span):
        first, last = max(row.offset, offset), min(row.end, offset + span)
        if row.kind == "inline":
            pieces += _copied(source, origin, row, payload, item, at, storage)
        elif row.kind != "hole" and first < last:
            pieces.append((at + first - offset, _cut(row, payload, first, last)))
    nbytes = item.nbytes
    size = max(item.size, at + length)
    if at > item.size:
        nbytes += expand(target, ino, at, storage, keep_inline=target.no_holes)
    if item.size or item.nbytes or not target.no_holes:
        nbytes += fileextents.replace(target, ino, at, at + span, pieces, size)
    else:  # it has no extents
        nbytes += fileextents.lay(target, ino, size, pieces)
    touch(target, ino, size=size, nbytes=nbytes)


def check(
    source: Files, source_ino: int, offset: int, length: int, size: int, flags: int, at: int
) -> tuple[InodeItem, int]:
    """Return the inode item of a file, and how many bytes of it another one is to share, which 0 leaves open.

    That other one, from *at* on, has *size* bytes and *flags*. Raises RefusedError where no such file can share them
    (fs/remap_range.c ``generic_remap_checks``).
    """
    sector, origin = source.sectorsize, fileextents.regular(source, source_ino)
    length = length or max(origin.size - offset, 0)
    end = fileextents.check_range(offset, length)
    if offset % sector or at % sector:
        raise RefusedError(f"offsets {offset} and {at} are not both multiples of the sector size {sector}")
    if end > origin.size:
        raise RefusedError(f"{length} bytes at {offset} reach beyond the end of the file at {origin.size}")
    if length % sector and end != origin.size:
        raise RefusedError(f"{length} bytes end inside a sector of {sector}, and not where the file does")
    if length % sector and at + length < size:
        raise RefusedError(
            f"{length} bytes end inside a sector, with bytes of the target behind them: they cannot share"
        )
    fileextents.check_data(source, at, length)
    if (origin.flags ^ flags) & _NODATASUM:
        raise RefusedError(f"inode {source_ino} cannot be shared there: only one of the files has checksums")
    return origin, length


def whole(source: Files, ino: int) -> tuple[int, list[Piece]]:
    """Return the size of a file and the pieces that a new one needs to share all of it, by :func:`fileextents.lay`."""
    size = fileextents.regular(source, ino).size
    end = round_up(size, source.sectorsize)
    pieces: list[Piece] = []
    for row, payload in fileextents.items(source, ino, 0, end):
        if row.kind == "inline":
            pieces.append((0, FileExtentInline.unpack(payload)))
        elif row.kind != "hole":
            pieces.append((row.offset, _cut(row, payload, row.offset, min(row.end, end))))
    return size, pieces


def _cut(row: FileExtentRow, payload: bytes, first: int, last: int) -> FileExtent:
    """Return the file extent item of *row*, cut to bytes [first, last) of the file."""
    item = FileExtent.unpack(payload)
    if last - first == item.num_bytes:
        return item
    return item.replace(offset=item.offset + first - row.offset, num_bytes=last - first)


def _copied(
    source: Files, origin: InodeItem, row: FileExtentRow, payload: bytes, item: InodeItem, at: int, storage: Storage
) -> list[Piece]:
    """Return inline data for a target *item*: inline if nothing else is in it (``clone_copy_inline_extent``)."""
    if at == 0 and item.size <= row.length:
        return [(0, FileExtentInline.unpack(payload))]
    data = fileextents.row_data(source, row, 0, min(row.length, origin.size), storage.sink, origin.flags)
    return storage.store(data, at, item.flags)
