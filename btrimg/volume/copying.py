"""Copies of image files, holes kept, shared with the original where the host's filesystem can."""

from __future__ import annotations

import errno
import os
from contextlib import contextmanager, nullcontext, suppress
from fcntl import ioctl
from typing import TYPE_CHECKING

from btrimg.errors import DeviceError
from btrimg.volume.holes import end_of_data, next_data
from btrimg.volume.replacing import replacing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

_FICLONE = 0x40049409  # include/uapi/linux/fs.h
_STEP = 64 << 20


@contextmanager
def copies(
    devices: Sequence[str], output: str, progress: Callable[[int, int], None] = lambda _devices, _bytes: None
) -> Iterator[list[str]]:
    """Copy *devices* to *output*, a directory for several of them, and give the copies, in the order of the devices.

    Within the ``with`` block they may be changed; at its end they take their names, or when it fails nothing is left of
    them, nor of directories made for them. *progress* hears how many devices and bytes are done. Raises
    DeviceError when something is there already or cannot be made, OSError when it cannot be written.
    """
    sources: dict[str, str] = {}
    for path in devices:
        target = os.path.join(output, os.path.basename(path)) if len(devices) > 1 else output
        if target in sources:
            raise DeviceError(f"{sources[target]} and {path} would both be copied to {target}; give one another name")
        sources[target] = path
    with _directory(output) if len(devices) > 1 else nullcontext(), replacing(list(sources)) as partials:
        for path, partial in zip(devices, partials, strict=True):
            copy_image(path, partial, lambda size: progress(0, size))
            progress(1, 0)
        yield partials


@contextmanager
def _directory(path: str) -> Iterator[None]:
    """Make a directory, with those that it is in; those that were not there go when the ``with`` block fails."""
    missing, at = [], os.path.abspath(path)
    while not os.path.lexists(at):
        missing.append(at)
        at = os.path.dirname(at)
    try:
        os.makedirs(path, exist_ok=True)
        yield
    except BaseException:
        for at in missing:
            with suppress(OSError):
                os.rmdir(at)
        raise


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
