"""One image file or block device, read by explicit offsets."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from itertools import repeat

from btrimg.errors import DeviceError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Self


def identity_of(status: os.stat_result) -> tuple[int, int]:
    """Return what is equal for two names of one file or block device."""
    return (0, status.st_rdev) if stat.S_ISBLK(status.st_mode) else (status.st_dev, status.st_ino)


class Device:
    """An open image file or block device; one descriptor, closed by ``close`` or at the end of the ``with``.

    Reading is safe from several threads: no position is kept. Raises DeviceError when *path* cannot be opened or
    is neither a regular file nor a block device. *direct* reads around the kernel's page cache, into buffers and from
    offsets that the device wants aligned.
    """

    shows_all = True  #: whether its descriptor shows what reading gives

    def __init__(self, path: str, *, direct: bool = False) -> None:
        self.path = path
        try:
            # Without O_NONBLOCK the open of a FIFO waits for its writer; files and block devices ignore it.
            self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | (os.O_DIRECT if direct else 0))
        except (OSError, ValueError) as error:  # ValueError: a NUL in the path
            reason = error.strerror if isinstance(error, OSError) else str(error)
            raise DeviceError(f"cannot open {path}: {reason}") from None
        status = os.fstat(self._fd)
        self.is_block = stat.S_ISBLK(status.st_mode)
        if self.is_block:
            # btrfs writes around the page cache of its block devices: what is cached may be older than the disk.
            os.posix_fadvise(self._fd, 0, 0, os.POSIX_FADV_DONTNEED)
        elif not stat.S_ISREG(status.st_mode):
            self.close()
            raise DeviceError(f"{path} is neither a regular file nor a block device")
        self.identity = identity_of(status)
        self.size = os.lseek(self._fd, 0, os.SEEK_END)  #: bytes; fstat says 0 for block devices

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the descriptor; a second call does nothing."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def fileno(self) -> int:
        """Return the descriptor, for mmap and for reads of many blocks; its position means nothing."""
        return self._fd

    def expect(self, length: int, offset: int) -> None:
        """Let the kernel begin to read what will be asked for soon; nobody waits, and nothing is said of errors."""
        if offset + length <= self.size:
            with suppress(OSError):
                os.posix_fadvise(self._fd, offset, length, os.POSIX_FADV_WILLNEED)

    def pread(self, length: int, offset: int) -> bytes:
        """Return exactly *length* bytes from physical *offset*.

        Raises DeviceError when the device ends before, or cannot be read there.
        """
        if offset + length > self.size:
            raise DeviceError(f"{self.path} ends at {self.size}: no {length} bytes at {offset}")
        try:
            data = os.pread(self._fd, length, offset)
            while len(data) < length:  # Linux gives at most 0x7ffff000 bytes a call
                more = os.pread(self._fd, length - len(data), offset + len(data))
                if not more:
                    raise DeviceError(f"{self.path} was cut while open: no {length} bytes at {offset}")
                data += more
        except OSError as error:
            raise DeviceError(f"cannot read {length} bytes at {offset} of {self.path}: {error.strerror}") from None
        return data

    def pread_each(self, length: int, offsets: Sequence[int]) -> list[bytes]:
        """Return *length* bytes, a block at most, from each of *offsets*: half the time of as many ``pread``.

        Raises DeviceError when one of them cannot be read.
        """
        try:
            found = list(map(os.pread, repeat(self._fd), repeat(length), offsets))
        except OSError as error:
            raise DeviceError(f"cannot read {self.path}: {error.strerror}") from None
        if set(map(len, found)) - {length}:
            raise DeviceError(f"{self.path} ends within one of {len(found)} places")
        return found

    def pread_into(self, buffer: memoryview, offset: int) -> None:
        """Fill *buffer* from physical *offset*; for readers of many blocks that keep one buffer.

        Raises DeviceError when the device ends before, or cannot be read there.
        """
        left = buffer.cast("B")
        while left:
            try:
                count = os.preadv(self._fd, [left], offset)
            except OSError as error:
                raise DeviceError(
                    f"cannot read {len(left)} bytes at {offset} of {self.path}: {error.strerror}"
                ) from None
            if not count:
                raise DeviceError(f"{self.path} ends at {self.size}: no {len(left)} bytes at {offset}")
            left, offset = left[count:], offset + count


class SharedDevice(Device):
    """A device that nobody opens by ``DeviceSink`` until it is closed, here and by processes that were forked.

    Raises DeviceError where somebody has, too.
    """

    def __init__(self, path: str) -> None:
        import fcntl

        super().__init__(path)
        try:
            fcntl.flock(self.fileno(), fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            self.close()
            raise DeviceError(f"{path} is being written by another program: wait for it to end") from None
        except OSError:  # a filesystem without locks
            pass
