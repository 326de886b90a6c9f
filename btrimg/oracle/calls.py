"""The btrfs and VFS calls that the standard library lacks.

The ioctl numbers are those of x86, arm, riscv and s390 (``include/uapi/asm-generic/ioctl.h``).
"""

from __future__ import annotations

import fcntl
import os
import struct
from contextlib import contextmanager
from typing import TYPE_CHECKING

from btrimg.named import NamedTuple
from btrimg.volume.statx import Stat as Stat
from btrimg.volume.statx import stat as stat

if TYPE_CHECKING:
    from collections.abc import Iterator

SUBVOLUME_INO = 256  # inode number of every subvolume's root directory

_FS_IOC_FIEMAP = 0xC020660B  # include/uapi/linux/fs.h
_INO_LOOKUP = 0xD0009412  # include/uapi/linux/btrfs.h

# include/uapi/linux/fiemap.h
FIEMAP_LAST, FIEMAP_ENCODED, FIEMAP_NOT_ALIGNED, FIEMAP_INLINE = 0x1, 0x8, 0x100, 0x200
FIEMAP_UNWRITTEN, FIEMAP_SHARED = 0x800, 0x2000

_FIEMAP_HEAD, _FIEMAP_EXTENT = struct.Struct("=QQIIII"), struct.Struct("=QQQQQIIII")
_FIEMAP_ROWS = 512


class FiemapRow(NamedTuple):
    """One row of FS_IOC_FIEMAP, in bytes; neighbours on disk that have equal flags come as one row."""

    offset: int  #: in the file
    logical: int  #: btrfs's own address space, though FIEMAP calls it physical
    length: int
    flags: int  #: FIEMAP_*


@contextmanager
def opened(path: str | bytes, flags: int = os.O_RDONLY, mode: int = 0o644) -> Iterator[int]:
    """Open *path* for the length of the block; give the descriptor."""
    fd = os.open(path, flags | os.O_CLOEXEC, mode)
    try:
        yield fd
    finally:
        os.close(fd)


def subvolume_id(path: str | bytes) -> int:
    """Return the id of the tree that holds *path* (a directory or a regular file)."""
    with opened(path) as fd:
        args = bytearray(4096)
        struct.pack_into("=QQ", args, 0, 0, SUBVOLUME_INO)
        fcntl.ioctl(fd, _INO_LOOKUP, args)
    tree: int = struct.unpack_from("=Q", args)[0]
    return tree


def fiemap(path: str | bytes) -> tuple[FiemapRow, ...]:
    """Return every extent of a file in order; holes are the gaps between the rows."""
    with opened(path) as fd:
        rows: list[FiemapRow] = []
        while not (rows and rows[-1].flags & FIEMAP_LAST):
            start = rows[-1].offset + rows[-1].length if rows else 0
            more = _fiemap_once(fd, start)
            if not more:
                break
            rows += more
    return tuple(rows)


def _fiemap_once(fd: int, start: int) -> list[FiemapRow]:
    buffer = bytearray(_FIEMAP_HEAD.size + _FIEMAP_ROWS * _FIEMAP_EXTENT.size)
    _FIEMAP_HEAD.pack_into(buffer, 0, start, (1 << 64) - 1 - start, 0, 0, _FIEMAP_ROWS, 0)
    fcntl.ioctl(fd, _FS_IOC_FIEMAP, buffer)
    mapped = _FIEMAP_HEAD.unpack_from(buffer)[3]
    rows = []
    for slot in range(mapped):
        at = _FIEMAP_HEAD.size + slot * _FIEMAP_EXTENT.size
        offset, logical, length, _, _, flags, *_ = _FIEMAP_EXTENT.unpack_from(buffer, at)
        rows.append(FiemapRow(offset, logical, length, flags))
    return rows


def xattrs(path: bytes) -> dict[bytes, bytes]:
    """Return the extended attributes of *path* itself, a symlink not followed."""
    names = map(os.fsencode, os.listxattr(path, follow_symlinks=False))
    return {name: os.getxattr(path, name, follow_symlinks=False) for name in names}
