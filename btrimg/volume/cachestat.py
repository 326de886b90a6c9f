"""How much of a file or block device the kernel's page cache holds."""

from __future__ import annotations

import ctypes
import os
from mmap import PAGESIZE

_CACHESTAT = 451  #: the number of the system call, on all processors

_libc = ctypes.CDLL(None, use_errno=True)


def cached_bytes(fd: int, offset: int = 0, length: int = 0) -> int:
    """Return how many of *length* bytes from *offset* on, 0 for all that follow, are in the page cache; whole pages.

    Raises OSError before Linux 6.5, and where others may not know: the file must be one's own, or be open for writing.
    """
    asked, found = (ctypes.c_uint64 * 2)(offset, length), (ctypes.c_uint64 * 5)()
    if _libc.syscall(ctypes.c_long(_CACHESTAT), fd, asked, found, 0):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return int(found[0]) * PAGESIZE
