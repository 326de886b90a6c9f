"""Hold everything that btrimg reads of an image against what the kernel said of it.

Two judges: the kernel's own view of its mount (``support.truth``), and the bytes at every resolved device offset.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from .kernel import FIEMAP_ENCODED, FIEMAP_INLINE, FIEMAP_LAST, FIEMAP_SHARED, FIEMAP_UNWRITTEN, FiemapRow

if TYPE_CHECKING:
    from collections.abc import Iterable

    from btrimg.filesystem.extents import FileExtentRow
    from btrimg.filesystem.image import Image
    from btrimg.filesystem.inode import Inode
    from btrimg.ondisk.inodes import Timespec

    from .truth import Entry, Truth

BILLION = 10**9


def compare(image: Image, truth: Truth) -> None:
    """Compare every entry: fields, times, xattrs, names, targets, contents, extents, and the bytes at every copy."""
    for path, entry in truth.entries.items():
        inode = image.open(path, follow=False)
        assert inode.subvolume.id == entry.subvolume or entry.is_placeholder
        _check_inode(inode, entry)
        if entry.names is not None:
            assert sorted(found.name for found, _ in inode.entries()) == sorted(entry.names)
        if entry.target is not None:
            assert inode.target() == entry.target
        if entry.content is not None:
            assert inode.read(0, len(entry.content) + 1) == entry.content
        if stat.S_ISREG(entry.stat.mode):
            _check_extents(image, inode, entry)


def _check_inode(inode: Inode, entry: Entry) -> None:
    item, found = inode.item, entry.stat
    assert inode.ino == found.ino
    assert (item.mode, item.uid, item.gid) == (found.mode, found.uid, found.gid)
    if entry.is_placeholder:
        return  # the kernel makes up its times
    assert item.nlink == found.nlink
    assert item.size == found.size
    assert tuple(map(_ns, (item.atime, item.mtime, item.ctime))) == (found.atime, found.mtime, found.ctime)
    assert _ns(item.otime) == found.btime
    assert inode.xattrs() == entry.xattrs
    if stat.S_ISCHR(item.mode) or stat.S_ISBLK(item.mode):
        assert (item.rdev >> 20, item.rdev & 0xFFFFF) == (os.major(found.rdev), os.minor(found.rdev))


def _ns(time: Timespec) -> int:
    return time.sec * BILLION + time.nsec


def _check_extents(image: Image, inode: Inode, entry: Entry) -> None:
    rows = list(inode.extents())
    ours = joined(_as_fiemap(row, image.volume.sectorsize) for row in rows if row.kind != "hole")
    theirs = joined(row._replace(flags=row.flags & ~(FIEMAP_SHARED | FIEMAP_LAST)) for row in entry.extents)
    assert ours == theirs, entry.path
    if entry.content is not None:
        _check_places(image, inode, entry.content)


def _as_fiemap(row: FileExtentRow, sectorsize: int) -> FiemapRow:
    """Return what FIEMAP says of a row: inline data fill a sector and lie nowhere, compressed ones at their start."""
    if row.kind == "inline":
        encoded = FIEMAP_ENCODED if row.compression else 0
        return FiemapRow(row.offset, 0, -(-row.length // sectorsize) * sectorsize, 0x100 | FIEMAP_INLINE | encoded)
    flags = {"compressed": FIEMAP_ENCODED, "prealloc": FIEMAP_UNWRITTEN, "regular": 0}[row.kind]
    assert row.logical is not None
    return FiemapRow(row.offset, row.logical, row.length, flags)


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


def _check_places(image: Image, inode: Inode, content: bytes) -> None:
    """Compare the file with the bytes at every copy of every resolved place, from the first byte to the last."""
    offset = 0
    while offset < len(content):
        answer = inode.resolve(offset)
        assert answer.length > 0
        if answer.kind == "regular":
            for copy in answer.copies:
                stored = image.volume.devices[copy.devid].pread(answer.length, copy.physical)
                assert stored == content[offset : offset + answer.length], (inode.path, answer, copy)
        elif answer.kind in ("hole", "prealloc"):
            assert not any(content[offset : offset + answer.length])
        offset += answer.length
    assert offset == len(content)
