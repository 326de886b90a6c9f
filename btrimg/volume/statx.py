"""What statx() says of a file of the host: the standard library's stat does not know when it was created."""

from __future__ import annotations

import os
from functools import cache
from struct import Struct

from btrimg.named import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

# include/uapi/linux/fcntl.h, include/uapi/linux/stat.h
AT_FDCWD = -100
_SYMLINK_NOFOLLOW, _EMPTY_PATH = 0x100, 0x1000
_BASIC_AND_BTIME = 0xFFF

_STATX = Struct("=16xIIIH2xQQQ8xqI4xqI4xqI4xqI4xIIII")
_NS = 10**9


@cache
def _call() -> tuple[Callable[..., int], Any]:
    """Return statx, and the type of its buffer; declaring its arguments would double the time a call takes."""
    import ctypes

    return ctypes.CDLL(None).statx, ctypes.c_char * 256


class Stat(NamedTuple):
    """What statx() says of an inode; each time as seconds since 1970, and ns, which the properties join."""

    nlink: int
    uid: int
    gid: int
    mode: int
    ino: int
    size: int
    blocks: int  #: of 512 bytes, that it takes on the host
    atime_s: int
    atime_ns: int
    btime_s: int  #: of its creation; 0 where the host's filesystem does not keep it
    btime_ns: int
    ctime_s: int
    ctime_ns: int
    mtime_s: int
    mtime_ns: int
    rdev_major: int
    rdev_minor: int
    dev_major: int
    dev_minor: int

    @property
    def atime(self) -> int:
        """Return the time of the last access, in ns since 1970."""
        return self.atime_s * _NS + self.atime_ns

    @property
    def btime(self) -> int:
        """Return the time of its creation, 0 where the host's filesystem does not keep it."""
        return self.btime_s * _NS + self.btime_ns

    @property
    def ctime(self) -> int:
        """Return the time of the last change of the inode."""
        return self.ctime_s * _NS + self.ctime_ns

    @property
    def mtime(self) -> int:
        """Return the time of the last change of the content."""
        return self.mtime_s * _NS + self.mtime_ns

    @property
    def rdev(self) -> int:
        """Return the number of the device that a special file is."""
        return os.makedev(self.rdev_major, self.rdev_minor)

    @property
    def dev(self) -> int:
        """Return the number of the device that it is on."""
        return os.makedev(self.dev_major, self.dev_minor)


def stat(path: bytes, fd: int = AT_FDCWD) -> Stat:
    """Return statx() of *path* itself, a symlink not followed, relative to the directory *fd*; of *fd* if it is empty.

    Raises OSError.
    """
    statx, buffer_type = _call()
    buffer = buffer_type()
    while statx(fd, path, _SYMLINK_NOFOLLOW | _EMPTY_PATH, _BASIC_AND_BTIME, buffer):
        os.stat(path or fd, dir_fd=fd if path and fd != AT_FDCWD else None, follow_symlinks=not path)  # raises
    return Stat._make(_STATX.unpack_from(buffer))


def stat_without_birth(path: bytes, fd: int = AT_FDCWD) -> Stat:
    """Return what :func:`stat` does, but for the time of creation, which is 0.

    It needs no ctypes, which takes 4 ms to import. Raises OSError.
    """
    found = os.stat(path or fd, dir_fd=fd if path and fd != AT_FDCWD else None, follow_symlinks=not path)
    return Stat(
        *(found.st_nlink, found.st_uid, found.st_gid, found.st_mode, found.st_ino, found.st_size, found.st_blocks),
        *divmod(found.st_atime_ns, _NS),
        *(0, 0),
        *divmod(found.st_ctime_ns, _NS),
        *divmod(found.st_mtime_ns, _NS),
        *(os.major(found.st_rdev), os.minor(found.st_rdev), os.major(found.st_dev), os.minor(found.st_dev)),
    )
