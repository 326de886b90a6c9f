"""What is in memory: pages of files in the kernel's page cache, and the page frames behind a buffer."""

from __future__ import annotations

import ctypes
import os
from mmap import ACCESS_READ, PAGESIZE, mmap
from typing import TYPE_CHECKING

import numpy as np

from btrimg.errors import UnsupportedError
from btrimg.volume.cachestat import cached_bytes

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Ints = NDArray[np.int64]

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mincore.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p]

_TRIES = 10  # some of the pages may have been taken back before their frames are read
# Documentation/admin-guide/mm/pagemap.rst
_PRESENT, _FRAME = np.uint64(1 << 63), np.uint64((1 << 55) - 1)


def resident(path: str | bytes) -> int:
    """Return how many bytes of a file or block device are in the page cache; raise OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return cached_bytes(fd)
    except OSError:
        return _mapped_resident(fd)
    finally:
        os.close(fd)


def _mapped_resident(fd: int) -> int:
    """Return the same without cachestat, which came with Linux 6.5 and not everybody may ask."""
    size = os.lseek(fd, 0, os.SEEK_END)
    if not size:
        return 0
    with mmap(fd, size, access=ACCESS_READ) as area:
        found = np.zeros(-(-size // PAGESIZE), np.uint8)
        if _libc.mincore(_address(np.frombuffer(area, np.uint8)), size, _address(found)):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        return int((found & 1).sum()) * PAGESIZE


def drop(path: str | bytes) -> None:
    """Have the kernel forget the pages of one file that nobody maps; raise OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(fd)


def frames(buffer: memoryview | mmap) -> Ints:
    """Read a mapped buffer; return the number of the page frame behind each of its pages.

    Raises UnsupportedError without the right to know: numbers are shown to root only.
    """
    array = np.frombuffer(buffer, np.uint8)
    first, pages = _address(array) // PAGESIZE, -(-len(array) // PAGESIZE)
    with open("/proc/self/pagemap", "rb", buffering=0) as file:
        for _ in range(_TRIES):
            int(array[::PAGESIZE].sum())  # a page that was not touched has no frame
            entries = np.frombuffer(os.pread(file.fileno(), 8 * pages, 8 * first), np.uint64)
            if (entries & _PRESENT).all():
                break
        else:
            raise UnsupportedError(f"the kernel takes pages back as fast as they are read: {pages} are too many")
    numbers = (entries & _FRAME).astype(np.int64)
    if not numbers.all():
        raise UnsupportedError("page frames are shown to root only (/proc/self/pagemap)")
    return numbers


def _address(array: NDArray[np.uint8]) -> int:
    address: int = array.__array_interface__["data"][0]
    return address
