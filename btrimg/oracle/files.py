"""Compare inodes, directories, FIEMAP, file contents and the bytes on the devices with what the kernel shows."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, Any

from btrimg.errors import BtrimgError
from btrimg.filesystem.extents import extent_at
from btrimg.filesystem.translate import copies_at
from btrimg.ondisk.compression import decompress
from btrimg.oracle import calls
from btrimg.oracle.calls import (
    FIEMAP_ENCODED,
    FIEMAP_INLINE,
    FIEMAP_LAST,
    FIEMAP_NOT_ALIGNED,
    FIEMAP_SHARED,
    FIEMAP_UNWRITTEN,
    FiemapRow,
)
from btrimg.oracle.survey import spread
from btrimg.units import MIB

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from btrimg.filesystem.extents import FileExtentRow
    from btrimg.filesystem.image import Image
    from btrimg.filesystem.inode import Inode
    from btrimg.filesystem.translate import Resolution
    from btrimg.ondisk.inodes import Timespec
    from btrimg.oracle.setting import Setting
    from btrimg.oracle.survey import Subject
    from btrimg.oracle.tally import Tally

    #: Gives the file's bytes as the kernel has them: offset, length.
    Content = Callable[[int, int], bytes]

UNITS = {
    "inodes": "inodes",
    "directories": "directories",
    "FIEMAP": "regular files",
    "contents": "regular files",
    "device bytes": "regular files",
}
_WINDOW = MIB  # bytes that are compared at once
_WINDOWS = 16  # of a file, where not all is compared
_BILLION = 10**9
_MADE_UP = (b"security.selinux", b"security.SMACK64")  # labels that the kernel shows and no disk may hold


class FileComparison:
    """The comparisons of files, counted."""

    def __init__(self, setting: Setting, top: str, judge: str) -> None:
        self._setting, self._top = setting, os.fsencode(top)
        self.tallies = {name: setting.ledger.open(name, judge, unit) for name, unit in UNITS.items()}

    def compare(self, subject: Subject) -> None:
        """Compare one inode, by its first path."""
        host = self._top + subject.path
        where = subject.path.decode("utf-8", "surrogateescape")
        try:
            found = calls.stat(host)
        except OSError as error:
            self._leave_out(subject, error)
            return
        try:
            inode = self._setting.image.open(subject.path, follow=False)
            self._inode(inode, where, host, found)
            if stat.S_ISREG(found.mode):
                self._regular(inode, where, host, found.size)
        except BtrimgError as error:
            self.tallies["inodes"].differs(where, f"an error: {error}", "an inode")
        except OSError as error:
            self.tallies["inodes"].differs(where, "an inode", f"an error: {error.strerror}")

    def _leave_out(self, subject: Subject, error: OSError) -> None:
        tally = self.tallies["inodes"]
        if len(subject.path) + len(self._top) >= os.pathconf("/", "PC_PATH_MAX"):
            tally.skip("the path is longer than the kernel takes")
        else:
            where = subject.path.decode("utf-8", "surrogateescape")
            tally.differs(where, f"inode {subject.ino} of subvolume {subject.subvolume}", f"{error.strerror}")

    def _inode(self, inode: Inode, where: str, host: bytes, found: calls.Stat) -> None:
        tally = self.tallies["inodes"]
        ours, theirs = inode_fields(inode), stat_fields(found)
        if stat.S_ISDIR(found.mode) or stat.S_ISREG(found.mode):
            ours["subvolume"], theirs["subvolume"] = inode.subvolume.id, calls.subvolume_id(host)
        tally.same_fields(where, ours, theirs)
        shown, stored = calls.xattrs(host), inode.xattrs()
        for name in {**shown, **stored}:
            if name in stored or name not in _MADE_UP:
                tally.same(f"{where}: {name.decode('utf-8', 'replace')}", stored.get(name), shown.get(name))
        if stat.S_ISLNK(found.mode):
            tally.same(f"{where}: target", inode.target(), os.readlink(host))
        tally.done()
        if stat.S_ISDIR(found.mode):
            directories = self.tallies["directories"]
            names, listed = {entry.name for entry, _ in inode.entries()}, set(os.listdir(host))
            for name in sorted(names ^ listed):
                directories.differs(where, name if name in names else None, name if name in listed else None)
            directories.values += len(names & listed)
            directories.done()

    def _regular(self, inode: Inode, where: str, host: bytes, size: int) -> None:
        compare_extents(self.tallies["FIEMAP"], inode, where, calls.fiemap(host))
        self.tallies["FIEMAP"].done()
        with calls.opened(host) as fd:
            self._data(inode, where, fd, size)

    def _data(self, inode: Inode, where: str, fd: int, size: int) -> None:
        contents, places = self.tallies["contents"], self.tallies["device bytes"]

        def content(offset: int, length: int) -> bytes:
            return os.pread(fd, length, offset)

        left = size
        for start, end in self._ranges(size):
            left -= end - start
            while start < end:
                hole = _agreed_hole(inode, fd, start, end)
                length = hole or min(_WINDOW, end - start)
                if hole:
                    contents.values += hole
                else:
                    compare_content(contents, inode, where, start, length, content)
                    compare_places(places, inode, where, start, length, content)
                start += length
        for tally in (contents, places):
            if left:
                tally.skip(f"bytes of files above {_WINDOWS * _WINDOW // MIB} MiB", left)
            tally.done(1, size - left)

    def _ranges(self, size: int) -> Iterator[tuple[int, int]]:
        """Yield the file ranges to compare: all, or of a large file pieces spread evenly."""
        count = -(-size // _WINDOW)
        if self._setting.most is None or count <= _WINDOWS:
            yield 0, size
            return
        for number in spread(count, _WINDOWS).tolist():
            yield number * _WINDOW, min((number + 1) * _WINDOW, size)


def _agreed_hole(inode: Inode, fd: int, start: int, end: int) -> int:
    """Return how many bytes from *start* on the kernel and btrimg agree to be a hole, 0 if too few to be worth it.

    Reading terabytes of zeros would take hours.
    """
    row = extent_at(inode, start)
    if row.kind != "hole":
        return 0
    try:
        data = os.lseek(fd, start, os.SEEK_DATA)
    except OSError:  # ENXIO: no data until the end of the file
        data = end
    agreed = min(data, row.end, end) - start
    return agreed if agreed >= _WINDOW else 0


def inode_fields(inode: Inode) -> dict[str, Any]:
    """Return what btrimg says of an inode, times in ns since 1970."""
    item = inode.item
    device = stat.S_ISCHR(item.mode) or stat.S_ISBLK(item.mode)
    return {
        "ino": inode.ino,
        "mode": item.mode,
        "uid": item.uid,
        "gid": item.gid,
        "nlink": item.nlink,
        "size": item.size,
        "rdev": (item.rdev >> 20, item.rdev & 0xFFFFF) if device else None,
        "atime": _ns(item.atime),
        "mtime": _ns(item.mtime),
        "ctime": _ns(item.ctime),
        "btime": _ns(item.otime),
    }


def stat_fields(found: calls.Stat) -> dict[str, Any]:
    """Return what the kernel says of an inode, as ``inode_fields`` does."""
    names = ("ino", "mode", "uid", "gid", "nlink", "size", "atime", "mtime", "ctime", "btime")
    device = stat.S_ISCHR(found.mode) or stat.S_ISBLK(found.mode)
    fields = {name: getattr(found, name) for name in names}
    return {**fields, "rdev": (found.rdev_major, found.rdev_minor) if device else None}


def _ns(time: Timespec) -> int:
    return time.sec * _BILLION + time.nsec


def compare_extents(tally: Tally, inode: Inode, where: str, shown: Iterable[FiemapRow]) -> None:
    """Compare the file extents with FIEMAP's, whatever it says of sharing."""
    sectorsize = inode.image.volume.sectorsize
    ours = joined(_as_fiemap(row, sectorsize) for row in inode.extents() if row.kind != "hole")
    theirs = joined(row._replace(flags=row.flags & ~(FIEMAP_SHARED | FIEMAP_LAST)) for row in shown)
    if ours == theirs:
        tally.values += len(ours)
        return
    mine, their = {row.offset: row for row in ours}, {row.offset: row for row in theirs}
    for offset in sorted({*mine, *their}):
        tally.same(f"{where}: {offset}", mine.get(offset), their.get(offset))


def _as_fiemap(row: FileExtentRow, sectorsize: int) -> FiemapRow:
    """Return what FIEMAP says of a row: inline data fill a sector and lie nowhere, compressed ones at their start."""
    if row.kind == "inline":
        encoded = FIEMAP_ENCODED if row.compression else 0
        flags = FIEMAP_NOT_ALIGNED | FIEMAP_INLINE | encoded
        return FiemapRow(row.offset, 0, -(-row.length // sectorsize) * sectorsize, flags)
    flags = {"compressed": FIEMAP_ENCODED, "prealloc": FIEMAP_UNWRITTEN, "regular": 0}[row.kind]
    return FiemapRow(row.offset, row.logical or 0, row.length, flags)


def joined(rows: Iterable[FiemapRow]) -> list[FiemapRow]:
    """Join neighbours as the kernel does (fs/btrfs/extent_io.c ``emit_fiemap_extent``), whatever SHARED says."""
    out: list[FiemapRow] = []
    for row in rows:
        last = out[-1] if out else None
        follows = last and last.offset + last.length == row.offset and last.logical + last.length == row.logical
        if last and follows and last.flags == row.flags:
            out[-1] = last._replace(length=last.length + row.length)
        else:
            out.append(row)
    return out


def compare_content(tally: Tally, inode: Inode, where: str, offset: int, length: int, content: Content) -> None:
    """Compare file bytes [offset, offset + length) as btrimg reads them, verified, with *content*."""
    try:
        theirs: bytes | str = content(offset, length)
    except OSError as error:
        theirs = f"an error: {error.strerror}"
    try:
        ours: bytes | str = inode.read(offset, length)
    except BtrimgError as error:
        ours = f"an error: {error}"
    if isinstance(ours, str) and isinstance(theirs, str):
        tally.skip("bytes that neither can read", length)
        return
    _same_bytes(tally, where, offset, ours, theirs)


def compare_places(tally: Tally, inode: Inode, where: str, offset: int, length: int, content: Content) -> None:
    """Compare *content* with the bytes at every copy of every place that bytes of a file resolve to.

    Those of a compressed extent are unpacked; holes and what is preallocated must be zeros; inline data have no place.
    """
    end = offset + length
    while offset < end:
        size = 1
        try:
            answer = inode.resolve(offset)
            size = min(answer.length, end - offset)
            expected = content(offset, size)
            for role, stored in _stored(inode, answer, size):
                if stored is None:
                    tally.skip("bytes of copies on missing devices", size)
                else:
                    _same_bytes(tally, f"{where}, {role}", offset, stored, expected)
        except BtrimgError as error:
            tally.differs(f"{where}, offset {offset}", f"an error: {error}", "a place")
            return
        except OSError as error:
            tally.skip(f"bytes that the kernel does not read: {error.strerror}", size)
        offset += size


def _stored(inode: Inode, answer: Resolution, size: int) -> Iterator[tuple[str, bytes | None]]:
    """Yield (role, what is stored there) for every copy of *size* bytes, None on a missing device."""
    image = inode.image
    if answer.kind in ("hole", "prealloc"):
        yield answer.kind, bytes(size)
    for number, copy in enumerate(answer.copies if answer.kind in ("regular", "compressed") else ()):
        role = f"{copy.role} at {copy.devid}:{copy.physical}"
        if answer.kind == "regular":
            device = image.volume.devices.get(copy.devid)
            yield role, device.pread(size, copy.physical) if device else None
        else:
            yield role, _unpacked(inode, answer, number, size)


def _unpacked(inode: Inode, answer: Resolution, number: int, size: int) -> bytes | None:
    extent = answer.extent
    if extent is None:
        return None
    packed = _copy_of_extent(inode.image, extent.logical, extent.length, number)
    if packed is None:
        return None
    row = extent_at(inode, answer.offset)
    plain = decompress(row.compression, packed, extent.ram_bytes, inode.image.volume.sectorsize)
    skipped = extent.offset + answer.offset - row.offset
    return plain[skipped : skipped + size]


def _copy_of_extent(image: Image, logical: int, length: int, number: int) -> bytes | None:
    parts = []
    while length > 0:
        copies, _, contiguous = copies_at(image, logical)
        size = min(length, contiguous)
        device = image.volume.devices.get(copies[number].devid)
        if device is None:
            return None
        parts.append(device.pread(size, copies[number].physical))
        logical, length = logical + size, length - size
    return b"".join(parts)


def _same_bytes(tally: Tally, where: str, offset: int, ours: bytes | str, theirs: bytes | str) -> None:
    if ours == theirs:
        tally.values += len(ours)
        return
    at = 0
    if isinstance(ours, bytes) and isinstance(theirs, bytes):
        at = next(
            (n for n, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b), min(len(ours), len(theirs))
        )
        ours, theirs = (f"{len(each)} bytes, there {each[at : at + 16].hex()}" for each in (ours, theirs))
    tally.values += 1
    tally.differs(f"{where}, offset {offset + at}", ours, theirs)
