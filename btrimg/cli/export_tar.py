"""Write inodes of an image into a tar archive: pax headers, GNU sparse files 1.0, SCHILY xattrs."""

from __future__ import annotations

import stat
import tarfile
from typing import TYPE_CHECKING, BinaryIO, Self

from btrimg.errors import BtrimgError, CorruptError
from btrimg.filesystem.data import segments
from btrimg.filesystem.extents import file_extents
from btrimg.render.listing import device_number

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from btrimg.filesystem.extents import FileExtentRow
    from btrimg.filesystem.inode import Inode
    from btrimg.ondisk.inodes import Timespec

_TYPES = {
    stat.S_IFREG: tarfile.REGTYPE,
    stat.S_IFDIR: tarfile.DIRTYPE,
    stat.S_IFLNK: tarfile.SYMTYPE,
    stat.S_IFCHR: tarfile.CHRTYPE,
    stat.S_IFBLK: tarfile.BLKTYPE,
    stat.S_IFIFO: tarfile.FIFOTYPE,
}


class TarWriter:
    """Appends inodes to an archive on a stream that need not seek (context manager)."""

    def __init__(self, stream: BinaryIO, *, verify: bool) -> None:
        self._verify = verify
        self._archive = tarfile.open(  # noqa: SIM115  # closed by __exit__
            fileobj=stream, mode="w|", format=tarfile.PAX_FORMAT, encoding="utf-8", errors="surrogateescape"
        )
        self._first_names: dict[tuple[int, int], str] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._archive.close()

    def add(self, path: bytes, inode: Inode) -> None:
        """Append *inode* as *path*, a further name of an inode as a hard link.

        What tar cannot hold is warned of. Raises BtrimgError when the extents cannot be read. A stream takes back
        nothing: a file of which a later part turns out bad is filled with zeros and reported.
        """
        if stat.S_IFMT(inode.item.mode) not in _TYPES:
            inode.image.volume.warn(f"{path.decode('utf-8', 'surrogateescape')!a} is left out: tar has no sockets")
            return
        info = self._header(path, inode)
        identity = (inode.subvolume.id, inode.ino)
        linked = inode.item.nlink > 1 and not inode.is_directory
        first = self._first_names.get(identity) if linked else None
        if first is not None:
            info.type, info.linkname = tarfile.LNKTYPE, first
            self._archive.addfile(info)
        elif inode.is_regular:
            self._file(info, inode)
        else:
            self._archive.addfile(info)
        if linked:
            self._first_names.setdefault(identity, info.name)
        self._archive.members.clear()  # type: ignore[attr-defined]  # all headers of an image are much to remember

    def _header(self, path: bytes, inode: Inode) -> tarfile.TarInfo:
        item = inode.item
        info = tarfile.TarInfo(path.decode("utf-8", "surrogateescape"))
        info.type, info.mode = _TYPES[stat.S_IFMT(item.mode)], stat.S_IMODE(item.mode)
        info.uid, info.gid = item.uid, item.gid
        info.mtime = item.mtime.sec
        info.devmajor, info.devminor = device_number(item.rdev)
        headers = {"mtime": _time(item.mtime), "atime": _time(item.atime), "ctime": _time(item.ctime)}
        if stat.S_ISLNK(item.mode):
            info.linkname = inode.target().decode("utf-8", "surrogateescape")
        for key, value in inode.xattrs().items():
            name = key.decode("utf-8", "surrogateescape").replace("%", "%25").replace("=", "%3D")  # as GNU tar does
            if not name.isprintable():
                inode.image.volume.warn(f"the extended attribute {name!a} is left out: tar cannot hold its name")
                continue
            headers[f"SCHILY.xattr.{name}"] = value.decode("utf-8", "surrogateescape")
        info.pax_headers = headers
        return info

    def _file(self, info: tarfile.TarInfo, inode: Inode) -> None:
        size = inode.item.size
        ranges = list(_data_ranges(inode))
        stored = sum(length for _, length in ranges)
        if stored < size:
            sparse_map = _sparse_map(ranges, size)
            info.pax_headers = {
                **info.pax_headers,
                "GNU.sparse.major": "1",
                "GNU.sparse.minor": "0",
                "GNU.sparse.name": info.name,
                "GNU.sparse.realsize": str(size),
            }
            info.size = len(sparse_map) + stored
        else:
            sparse_map = b""
            info.size = size
        self._archive.addfile(info, _Reader(self._content(inode, ranges, sparse_map)))  # type: ignore[arg-type]

    def _content(self, inode: Inode, ranges: list[tuple[int, int]], sparse_map: bytes) -> Iterator[bytes]:
        yield sparse_map
        for start, length in ranges:
            cursor, end = start, start + length
            try:
                for at, piece in segments(inode, start, end, verify=self._verify):
                    yield bytes(at - cursor)
                    yield piece
                    cursor = at + len(piece)
            except BtrimgError as error:
                inode.image.report(CorruptError(str(error)))
            yield from _zeros(end - cursor)


def _zeros(count: int) -> Iterator[bytes]:
    for at in range(0, count, 1 << 20):
        yield bytes(min(1 << 20, count - at))


class _Reader:
    """A file to read from, made of pieces: what ``TarFile.addfile`` copies."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces, self._rest = iter(pieces), memoryview(b"")

    def read(self, size: int) -> bytes:
        """Return *size* bytes, fewer at the end."""
        parts: list[bytes | memoryview] = []
        while size > 0:
            if not self._rest:
                piece = next(self._pieces, None)
                if piece is None:
                    break
                self._rest = memoryview(piece)
            parts.append(self._rest[:size])
            self._rest = self._rest[size:]
            size -= len(parts[-1])
        return b"".join(parts)


def _data_ranges(inode: Inode) -> Iterator[tuple[int, int]]:
    """Yield (offset, length) of what is no hole below the end of the file, neighbours joined.

    Raises CorruptError for an extent that reaches out of its chunk: what cannot be read would be zeros without end.
    """
    size = inode.item.size
    start = end = 0
    for row in file_extents(inode):
        if row.kind in ("hole", "prealloc") or row.offset >= size:
            continue
        _refuse_endless(inode, row)
        if row.offset != end:
            if end > start:
                yield start, end - start
            start = row.offset
        end = min(row.end, size)
    if end > start:
        yield start, end - start


def _refuse_endless(inode: Inode, row: FileExtentRow) -> None:
    if row.kind == "regular" and row.logical is not None:
        chunk = inode.image.volume.chunk_map.find(row.logical)
        if row.logical + row.length > chunk.end:
            raise CorruptError(f"{row.length} bytes at logical {row.logical} reach out of their chunk, {chunk.logical}")


def _sparse_map(ranges: list[tuple[int, int]], size: int) -> bytes:
    """Return the map before the data of a GNU sparse 1.0 file: a count, then offset and length of each range."""
    entries = ranges if ranges and sum(ranges[-1]) == size else [*ranges, (size, 0)]
    numbers = [len(entries), *(number for entry in entries for number in entry)]
    text = "".join(f"{number}\n" for number in numbers).encode()
    return text + bytes(-len(text) % 512)


def _time(time: Timespec) -> str:
    return f"{time.sec}.{time.nsec:09}" if time.sec >= 0 else str(time.sec)
