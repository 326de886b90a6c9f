"""Copies of image files, holes kept, shared with the original where the host's filesystem can."""

from __future__ import annotations

import errno
import os
from fcntl import ioctl
from typing import TYPE_CHECKING

from btrimg.volume.holes import end_of_data, next_data

if TYPE_CHECKING:
    from collections.abc import Callable

_FICLONE = 0x40049409  # include/uapi/linux/fs.h
_STEP = 64 << 20


def copy_image(source: str, target: str, progress: Callable[[int], None]) -> None:
    """Copy the image or block device *source* to the empty file *target*; *progress* hears how many bytes are done.

    What is a hole stays one. Raises OSError.
    """
    with open(source, "rb") as old, open(target, "r+b") as new:
        size = os.lseek(old.fileno(), 0, os.SEEK_END)
        try:
            ioctl(new.fileno(), _FICLONE, old.fileno())
            progress(size)
        except OSError:  # another filesystem, or one without reflinks
            os.ftruncate(new.fileno(), size)
            at = 0
            while (start := next_data(old.fileno(), at, size)) < size:
                at = end_of_data(old.fileno(), start, min(start + _STEP, size))
                _copy_range(old.fileno(), new.fileno(), start, at)
                progress(at - start)


def _copy_range(source: int, target: int, start: int, end: int) -> None:
    while start < end:
        try:
            done = os.copy_file_range(source, target, end - start, start, start)
        except OSError:  # from a block device, or between filesystems
            data = os.pread(source, min(end - start, 1 << 20), start)
            done = os.pwrite(target, data, start)
        if not done:
            raise OSError(errno.EIO, "the image was cut while it was copied")
        start += done
