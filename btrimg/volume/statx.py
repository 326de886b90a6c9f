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

_STATX = Struct("=16xIIIH2xQQQ8xqI4xqI4xqI4xqI4xIIII")
_NS = 10**9

_Buffer = ctypes.c_char * 256
_statx = ctypes.CDLL(None, use_errno=True).statx
_statx.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_uint, ctypes.c_void_p]


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
    if _statx(fd, path, _SYMLINK_NOFOLLOW | _EMPTY_PATH, _BASIC_AND_BTIME, buffer):
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error), path)
    nlink, uid, gid, mode, ino, size, blocks, *times, rmajor, rminor, major, minor = _STATX.unpack_from(buffer)
    asec, ans, bsec, bns, csec, cns, msec, mns = times
    atime, btime, ctime, mtime = asec * _NS + ans, bsec * _NS + bns, csec * _NS + cns, msec * _NS + mns
    rdev, dev = os.makedev(rmajor, rminor), os.makedev(major, minor)
    return Stat(ino, mode, uid, gid, nlink, size, rdev, atime, mtime, ctime, btime, dev, blocks)
