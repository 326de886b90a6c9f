"""What statx() says of a file of the host: the standard library's stat does not know when it was created."""

from __future__ import annotations

import ctypes
import os
from struct import Struct
from typing import NamedTuple

# include/uapi/linux/fcntl.h, include/uapi/linux/stat.h
AT_FDCWD = -100
_SYMLINK_NOFOLLOW, _EMPTY_PATH = 0x100, 0x1000
_BASIC_AND_BTIME = 0xFFF

_INODE = Struct("=16xIIIH2xQQQ72xIIII")
_TIMES = Struct("=64xqI4xqI4xqI4xqI")
_NS = 10**9

_Buffer = ctypes.c_char * 256
_statx = ctypes.CDLL(None).statx  # declaring its arguments, and keeping errno, would double the time a call takes


class Stat(NamedTuple):
    """What statx() says of an inode; times in ns since 1970."""

    ino: int
    mode: int
    uid: int
    gid: int
    nlink: int
    size: int
    rdev: int
    atime: int
    mtime: int
    ctime: int
    btime: int  #: of its creation; 0 where the host's filesystem does not keep it
    dev: int
    blocks: int  #: of 512 bytes, that it takes on the host


def stat(path: bytes, fd: int = AT_FDCWD) -> Stat:
    """Return statx() of *path* itself, a symlink not followed, relative to the directory *fd*; of *fd* if it is empty.

    Raises OSError.
    """
    buffer = _Buffer()
    while _statx(fd, path, _SYMLINK_NOFOLLOW | _EMPTY_PATH, _BASIC_AND_BTIME, buffer):
        os.stat(path or fd, dir_fd=fd if path and fd != AT_FDCWD else None, follow_symlinks=not path)  # raises
    nlink, uid, gid, mode, ino, size, blocks, rmajor, rminor, major, minor = _INODE.unpack_from(buffer)
    atime, ans, btime, bns, ctime, cns, mtime, mns = _TIMES.unpack_from(buffer)
    return Stat(
        *(ino, mode, uid, gid, nlink, size, os.makedev(rmajor, rminor)),
        *(atime * _NS + ans, mtime * _NS + mns, ctime * _NS + cns, btime * _NS + bns),
        *(os.makedev(major, minor), blocks),
    )
