"""Holes of image files: where they are, and how they are made."""

from __future__ import annotations

import errno
import os
from functools import cache

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_KEEP_SIZE, _PUNCH_HOLE = 1, 2  # include/uapi/linux/falloc.h


def next_data(fd: int, at: int, end: int) -> int:
    """Return where data begins at or behind *at*, *end* if that is not before it; block devices have no holes."""
    try:
        return min(os.lseek(fd, at, os.SEEK_DATA), end)
    except OSError as error:
        return end if error.errno == errno.ENXIO else at


def end_of_data(fd: int, start: int, end: int) -> int:
    """Return where the data that stand at *start* are followed by a hole, *end* if that is not before it."""
    try:
        return min(os.lseek(fd, start, os.SEEK_HOLE), end)
    except OSError:
        return end


def punch(fd: int, offset: int, length: int) -> None:
    """Make a hole: the range takes no room, and reads as zeros from now on. Raises OSError where that cannot be."""
    error = _fallocate()(fd, _KEEP_SIZE | _PUNCH_HOLE, offset, length)
    if error:
        raise OSError(error, os.strerror(error))


@cache
def _fallocate() -> Callable[[int, int, int, int], int]:
    """Return fallocate(2), which gives the number of the error."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    libc.fallocate64.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
    return lambda *arguments: ctypes.get_errno() if libc.fallocate64(*arguments) else 0
