"""The devices of a filesystem opened for writing, and nobody else writing to them."""

from __future__ import annotations

import fcntl
import os
import time

from btrimg.errors import DeviceError
from btrimg.units import MIB
from btrimg.volume.device import identity_of
from btrimg.volume.holes import punch
from btrimg.volume.mounted import refuse_if_in_use

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Self

    from typing_extensions import Buffer

    from btrimg.volume.device import Device

_AT_ONCE = 4 * MIB  # bytes of zeros
_PATIENCE = 2  # seconds; udev locks block devices while it looks at them, for milliseconds


class DeviceSink:
    """Image files and block devices, by devid, opened for writing (context manager).

    Raises DeviceError when one cannot be, is mounted, attached to a loop device, or used by another program that locks
    as this does: by flock, and block devices by O_EXCL, too. Unless :attr:`durable`, :meth:`sync` does
    nothing: for files that nobody knows before they are complete.
    """

    def __init__(self, devices: Mapping[int, Device], *, durable: bool = True) -> None:
        self._devices, self.durable = devices, durable  #: *durable* may be changed
        self._fds: dict[int, int] = {}
        self._unsynced: set[int] = set()
        try:
            opened: dict[object, int] = {}
            for devid, device in devices.items():
                if opened.setdefault(device.identity, devid) != devid:
                    raise DeviceError(
                        f"{device.path} is device {opened[device.identity]} as well as {devid}: its superblock and its "
                        "device item disagree; mend that with `btrimg corrupt` before"
                    )
                refuse_if_in_use(device.path)
                self._fds[devid] = _open(device)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the devices, and so give up the locks."""
        while self._fds:
            os.close(self._fds.popitem()[1])

    def pwrite(self, devid: int, physical: int, data: Buffer) -> None:
        """Write *data* at *physical* of a device; raise DeviceError when it does not fit there or cannot be written."""
        device, left = self._devices[devid], memoryview(data).cast("B")
        if physical < 0 or physical + len(left) > device.size:
            raise DeviceError(f"{device.path} ends at {device.size}: no {len(left)} bytes at {physical}")
        self._unsynced.add(devid)
        try:
            while left:
                count = os.pwrite(self._fds[devid], left, physical)
                left, physical = left[count:], physical + count
        except OSError as error:
            raise DeviceError(
                f"cannot write {len(left)} bytes at {physical} of {device.path}: {error.strerror}"
            ) from None

    def punch(self, devid: int, physical: int, length: int) -> None:
        """Make a hole, on a host that cannot zeros; raise DeviceError when that cannot be."""
        self._unsynced.add(devid)
        try:
            punch(self._fds[devid], physical, length)
        except OSError:
            for at in range(physical, physical + length, _AT_ONCE):
                self.pwrite(devid, at, bytes(min(_AT_ONCE, physical + length - at)))

    def resize(self, devid: int, size: int) -> None:
        """Let an image file be *size* bytes long; raise DeviceError when it cannot."""
        device = self._devices[devid]
        self._unsynced.add(devid)
        try:
            os.ftruncate(self._fds[devid], size)
        except OSError as error:
            raise DeviceError(f"cannot make {device.path} {size} bytes long: {error.strerror}") from None
        device.size = size

    def sync(self) -> None:
        """Return when all that was written is durable; raise DeviceError when it cannot be made so."""
        while self.durable and self._unsynced:
            devid = min(self._unsynced)
            try:
                os.fdatasync(self._fds[devid])
            except OSError as error:
                raise DeviceError(f"cannot write {self._devices[devid].path}: {error.strerror}") from None
            self._unsynced.remove(devid)


def _open(device: Device) -> int:
    try:
        fd = os.open(device.path, os.O_RDWR | os.O_CLOEXEC | (os.O_EXCL if device.is_block else 0))
    except OSError as error:
        raise DeviceError(f"cannot write {device.path}: {error.strerror}") from None
    try:
        if identity_of(os.fstat(fd)) != device.identity:
            raise DeviceError(f"{device.path} was replaced by another file while it was open; start again")
        _lock(fd, device)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _lock(fd: int, device: Device) -> None:
    """Lock a device against others who write, and those who have it as a ``SharedDevice``."""
    end = time.monotonic() + (_PATIENCE if device.is_block else 0)
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= end:
                raise DeviceError(
                    f"{device.path} is being written by another program, or mounted by btrimg mount: unmount it first"
                ) from None
            time.sleep(0.01)
        except OSError as error:
            raise DeviceError(f"cannot lock {device.path}: {error.strerror}") from None
        else:
            return
