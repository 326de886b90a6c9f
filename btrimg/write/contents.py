"""Contents of files changed: written, truncated, punched, preallocated (fs/btrfs/file.c, inode.c).

What is written goes to new extents, also in files marked NODATACOW and where space was preallocated: so the commit is
atomic for data too. Sectors that change in part are read, changed and written whole.
"""

from __future__ import annotations

from btrimg.filesystem.extents import OFFSET_MAX
from btrimg.ondisk.blocks import Key
from btrimg.ondisk.constants import Compression, FileExtentType, InodeFlag, ItemType
from btrimg.ondisk.extents import FileExtentInline
from btrimg.units import round_down, round_up
from btrimg.write import fileextents, inodes
from btrimg.write.fileextents import check_data, check_end, check_range, placed, regular, replace, rows

TYPE_CHECKING = False
if TYPE_CHECKING:
    from btrimg.ondisk.record import Value
    from btrimg.write.fileextents import Piece, Storage
    from btrimg.write.files import Files


def write(files: Files, ino: int, offset: int, data: bytes, storage: Storage) -> None:
    """Write *data* at *offset* of a regular file, which grows if need be; nothing happens without data.

    A file that becomes small enough is kept inline. Errors are those of :func:`fileextents.regular` and of the sink.
    """
    item = regular(files, ino)
    end = check_data(files, offset, len(data))
    if not data:
        return
    size = max(item.size, end)
    nbytes = item.nbytes
    whole = size <= files.sectorsize and not fileextents.has_data_beyond(files, ino, files.sectorsize)
    if whole:
        before = fileextents.read(files, ino, 0, item.size, storage.sink).ljust(offset, b"\0")
        data, offset = before[:offset] + data + before[end:], 0
    elif (start := round_down(offset, files.sectorsize)) >= item.size:
        nbytes += expand(files, ino, start, storage)
    nbytes += _put(files, ino, offset, data, size, storage, may_be_inline=whole)
    touch(files, ino, size=size, nbytes=nbytes)


def _put(
    files: Files, ino: int, offset: int, data: bytes, size: int, storage: Storage, *, may_be_inline: bool = False
) -> int:
    """Let *data* be what a file of *size* bytes has from *offset* on; return by how much ``nbytes`` grow.

    The inode item, which still has the old size, is the caller's.
    """
    item = inodes.read(files, ino)
    end = offset + len(data)
    start, stop = fileextents.sectors_around(files, offset, end)
    if may_be_inline and (inline := storage.inline(data, item.flags)):
        return replace(files, ino, start, stop, [(0, inline)], size)
    grown = convert_inline(files, ino, storage) if start else 0
    known = min(stop, item.size)
    head = fileextents.read(files, ino, start, offset, storage.sink)
    tail = fileextents.read(files, ino, end, known, storage.sink) if known > end else b""
    pieces = storage.store(head + data + tail, start, item.flags)
    return grown + replace(files, ino, start, stop, pieces, size)


def convert_inline(files: Files, ino: int, storage: Storage) -> int:
    """Store inline data, if there are any, in an extent; return by how much ``nbytes`` grow."""
    first = rows(files, ino, 0, 1)
    if not first or first[0].kind != "inline":
        return 0
    item = inodes.read(files, ino)
    data = fileextents.row_data(files, first[0], 0, min(first[0].length, item.size), storage.sink, item.flags)
    end = round_up(first[0].length, files.sectorsize)
    return replace(files, ino, 0, end, storage.store(data, 0, item.flags), max(item.size, end))


def expand(files: Files, ino: int, size: int, storage: Storage, *, keep_inline: bool = False) -> int:
    """Make ready for a file to grow to *size*; return by how much ``nbytes`` grow (``btrfs_cont_expand``).

    What the last sector holds beyond the end becomes zeros, inline data an extent unless *keep_inline*, and where
    holes have items they are put. The inode item is the caller's.
    """
    old = inodes.read(files, ino).size
    grown = 0 if keep_inline else convert_inline(files, ino, storage)
    grown += _zero(files, ino, old, min(size, round_up(old, files.sectorsize)), storage)
    if not files.no_holes:
        check_end(size, files.sectorsize)
        start, stop = round_up(old, files.sectorsize), round_up(size, files.sectorsize)
        for gap_start, gap_end in gaps(files, ino, start, stop):
            hole = fileextents.hole(files.generation, gap_end - gap_start)
            files.tree.put(Key(ino, ItemType.EXTENT_DATA, gap_start), hole.pack())
    return grown


def gaps(files: Files, ino: int, start: int, end: int) -> list[tuple[int, int]]:
    """Return the parts of [start, end), whole sectors, for which a file has no item."""
    found: list[tuple[int, int]] = []
    for row in rows(files, ino, start, end):
        if row.offset > start:
            found.append((start, row.offset))
        start = max(start, round_up(row.end, files.sectorsize))
    if end > start:
        found.append((start, end))
    return found


def _zero(files: Files, ino: int, start: int, end: int, storage: Storage) -> int:
    """Make bytes [start, end) of one sector zeros, where data are stored for them; return how ``nbytes`` grow.

    Bytes beyond the end of the file count: a file that grows shows them.
    """
    if start >= end:
        return 0
    found = rows(files, ino, start, end)
    if not found or found[0].kind in ("hole", "prealloc"):
        return 0
    item, row = inodes.read(files, ino), found[0]
    sector = round_down(start, files.sectorsize)
    stop = min(sector + files.sectorsize, row.end)
    data = fileextents.row_data(files, row, sector, stop, storage.sink, item.flags)
    if not any(data[start - sector : end - sector]):
        return 0
    data = data[: start - sector].ljust(min(end, stop) - sector, b"\0") + data[end - sector :]
    if row.kind == "inline" and (inline := storage.inline(data, item.flags)):
        return replace(files, ino, 0, files.sectorsize, [(0, inline)], item.size)
    pieces = storage.store(data, sector, item.flags)
    return replace(files, ino, sector, sector + files.sectorsize, pieces, max(item.size, sector + len(data)))


def truncate(files: Files, ino: int, size: int, storage: Storage) -> None:
    """Make a file *size* bytes long; what is preallocated behind its end goes, unless it grows (``btrfs_setsize``).

    Its times change if its size does.
    """
    item = regular(files, ino)
    check_range(size, 0)
    if size <= item.size:
        nbytes = item.nbytes + _shrink(files, ino, size, storage)
    elif size <= files.sectorsize and (first := rows(files, ino, 0, OFFSET_MAX)) and first[-1].kind == "inline":
        data = fileextents.read(files, ino, 0, item.size, storage.sink).ljust(size, b"\0")
        nbytes = item.nbytes + _put(files, ino, 0, data, size, storage, may_be_inline=True)
    else:
        nbytes = item.nbytes + expand(files, ino, size, storage)
    if size == item.size:
        inodes.change(files, ino, nbytes=max(nbytes, 0))
    else:
        touch(files, ino, size=size, nbytes=nbytes)


def _shrink(files: Files, ino: int, size: int, storage: Storage) -> int:
    """Cut off all that lies behind *size*; return by how much ``nbytes`` grow, which is none or negative."""
    end = round_up(size, files.sectorsize)
    grown = replace(files, ino, end, round_down(OFFSET_MAX, files.sectorsize), [], size)
    first = rows(files, ino, 0, 1) if end else []
    if not first or first[0].kind != "inline" or first[0].length <= size:
        return grown
    flags = inodes.read(files, ino).flags
    kept = fileextents.row_data(files, first[0], 0, size, storage.sink, flags)
    if first[0].compression:
        inline = storage.inline(kept, flags)
        pieces: list[Piece] = [(0, inline)] if inline else storage.store(kept, 0, flags)
    else:  # cut in place, also where today nothing so long would be inline
        kind = FileExtentType.INLINE
        pieces = [(0, FileExtentInline(files.generation, size, Compression.NONE, 0, 0, kind, kept))]
    return grown + replace(files, ino, 0, end, pieces, size)


def punch(files: Files, ino: int, offset: int, length: int, storage: Storage) -> None:
    """Make a hole of *length* bytes at *offset*; the size of the file stays (``btrfs_punch_hole``).

    Whole sectors are given back, also behind the end of the file; in others the bytes become zeros. Where there is
    nothing but a hole, nothing changes, times neither; inline data take all of their sector.
    """
    item = regular(files, ino)
    end = check_range(offset, length)
    start = round_down(offset, files.sectorsize)
    if not length or all(row.kind == "hole" for row in rows(files, ino, start, end)):
        return
    first, last = round_up(offset, files.sectorsize), round_down(end, files.sectorsize)
    nbytes = item.nbytes
    if first > last:
        nbytes += _zero(files, ino, offset, min(end, item.size), storage)
    else:
        nbytes += _zero(files, ino, offset, min(first, item.size), storage)
        nbytes += _zero(files, ino, last, min(end, item.size), storage)
        nbytes += replace(files, ino, first, last, [], item.size) if first < last else 0
    touch(files, ino, nbytes=nbytes)


def preallocate(files: Files, ino: int, offset: int, length: int, storage: Storage, *, keep_size: bool = False) -> None:
    """Take space for what has none in *length* bytes at *offset*; the file grows to their end (``btrfs_fallocate``).

    With *keep_size* it does not. Extents are as large as free space allows, or *storage* has pieces.
    """
    item = regular(files, ino)
    end = check_data(files, offset, length)
    if not length:
        return
    start, stop = fileextents.sectors_around(files, offset, end)
    size = item.size if keep_size else max(item.size, end)
    nbytes = item.nbytes
    if start > item.size:
        nbytes += expand(files, ino, start, storage)
    elif size > item.size:
        nbytes += _zero(files, ino, item.size, min(size, round_up(item.size, files.sectorsize)), storage)
    if not files.no_holes and stop > files.sectorsize:
        # The kernel leaves inline data before what it preallocates; btrfs check --mode=lowmem takes that for a gap.
        nbytes += convert_inline(files, ino, storage)
    for gap_start, gap_end in _unallocated(files, ino, start, stop):
        nbytes += replace(files, ino, gap_start, gap_end, _reserved(storage, gap_start, gap_end), size)
    touch(files, ino, size=size, nbytes=nbytes, flags=item.flags | InodeFlag.PREALLOC)


def _reserved(storage: Storage, start: int, end: int) -> list[Piece]:
    return placed(storage.sink.preallocate(end - start, at=storage.at, pieces=storage.pieces), start)


def _unallocated(files: Files, ino: int, start: int, end: int) -> list[tuple[int, int]]:
    """Return the parts of [start, end) that have no space: gaps and holes, neighbours as one."""
    found: list[tuple[int, int]] = []
    holes = [(max(row.offset, start), min(row.end, end)) for row in rows(files, ino, start, end) if row.kind == "hole"]
    for first, last in sorted(holes + gaps(files, ino, start, end)):
        if found and found[-1][1] == first:
            found[-1] = found[-1][0], last
        else:
            found.append((first, last))
    return found


def touch(files: Files, ino: int, *, nbytes: int, **fields: Value) -> None:
    """Overwrite *fields* of an inode whose contents change, and its times; wrong *nbytes* may come out below 0."""
    inodes.change(files, ino, nbytes=max(nbytes, 0), mtime=files.now, ctime=files.now, **fields)
