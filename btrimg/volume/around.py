"""Reading devices around the page cache, for who keeps what was read in a cache of its own."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from btrimg.errors import DeviceError

if TYPE_CHECKING:
    from btrimg.volume.volume import Volume


class AroundCache:
    """The devices of a volume, open a second time with O_DIRECT; reading is safe from several threads.

    Where a device cannot be read so, what was read is dropped from the page cache afterwards. Closed by ``close``.
    """

    def __init__(self, volume: Volume) -> None:
        self._volume = volume
        self._direct: dict[int, int] = {}
        for devid, device in volume.devices.items():
            try:
                path = f"/proc/self/fd/{device.fileno()}"  # the same file, whatever became of its name
                self._direct[devid] = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECT)
            except OSError:
                continue  # EINVAL: its filesystem has no such thing

    def close(self) -> None:
        """Close the descriptors; a second call does nothing."""
        while self._direct:
            os.close(self._direct.popitem()[1])

    def read_into(self, devid: int, buffer: memoryview, physical: int) -> None:
        """Fill *buffer* from byte *physical* of device *devid*.

        *buffer* starts at a page, and both numbers are multiples of the sector size, or it is not read directly.
        Raises DeviceError when the device is missing, ends before, or cannot be read there.
        """
        device = self._volume.devices.get(devid)
        if device is None:
            raise DeviceError(f"device {devid} is missing")
        fd = self._direct.get(devid)
        if fd is None:
            device.pread_into(buffer, physical)
            os.posix_fadvise(device.fileno(), physical, len(buffer), os.POSIX_FADV_DONTNEED)
            return
        try:
            count = os.preadv(fd, [buffer], physical)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise DeviceError(
                    f"cannot read {len(buffer)} bytes at {physical} of {device.path}: {error.strerror}"
                ) from None
            count = 0  # its blocks are larger than our sectors
        if count < len(buffer):
            device.pread_into(buffer[count:], physical + count)
