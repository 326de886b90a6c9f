"""Reading devices around the page cache, for who keeps what was read in a cache of its own, or reads it only once."""

from __future__ import annotations

import mmap
import os
import threading
from collections import OrderedDict
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from btrimg.errors import DeviceError
from btrimg.units import KIB, round_down, round_up
from btrimg.volume.device import Device

if TYPE_CHECKING:
    from collections.abc import Callable

    from btrimg.volume.volume import Volume

WINDOW = 128 * KIB  #: of a small read, the surroundings
_SMALL = 32 * KIB
_WINDOWS, _ASKED = 64, 1024


def direct_memory(size: int) -> memoryview:
    """Return memory to read into directly, from the start of a page on; whole pages."""
    memory = mmap.mmap(-1, round_up(size, mmap.PAGESIZE), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with suppress(OSError):  # a kernel without such pages
        memory.madvise(mmap.MADV_HUGEPAGE)  # one is pinned for a direct read, instead of hundreds
    return memoryview(memory)


class DirectDevices:
    """Those devices of a volume that can be opened a second time with O_DIRECT; closed by ``close``."""

    def __init__(self, volume: Volume) -> None:
        self._opened: dict[int, Device] = {}
        for devid, device in volume.devices.items():
            if not device.shows_all:
                continue
            with suppress(DeviceError):  # its filesystem has no such thing
                direct = Device(device.path, direct=True)
                if direct.identity == device.identity:
                    self._opened[devid] = direct
                else:  # it has another name by now
                    direct.close()

    def close(self) -> None:
        """Close what was opened; a second call does nothing."""
        while self._opened:
            self._opened.popitem()[1].close()

    def get(self, devid: int) -> Device | None:
        """Return a device, None for one that cannot be read so."""
        return self._opened.get(devid)


class AroundCache:
    """The devices of a volume, read directly; reading is safe from several threads.

    Where a device cannot be read so, what was read is dropped from the page cache afterwards. Small files that are read
    one after the other lie side by side: who reads little, in a place where somebody has read before, gets it from a
    larger read, of which the last 8 MiB are kept. Closed by ``close``.
    """

    def __init__(self, volume: Volume) -> None:
        self._volume = volume
        self._lock = threading.Lock()
        self._windows: OrderedDict[tuple[int, int], bytes] = OrderedDict()
        self._asked: OrderedDict[tuple[int, int], None] = OrderedDict()  # windows in which something was read
        self._direct = DirectDevices(volume)

    def close(self) -> None:
        """Close what was opened; a second call does nothing."""
        self._direct.close()

    def read_into(self, devid: int, buffer: memoryview, physical: int) -> None:
        """Fill *buffer* from byte *physical* of device *devid*.

        Both numbers are multiples of the sector size, and *buffer* starts at a page, or it is not read directly.
        Raises DeviceError when the device is missing, ends before, or cannot be read there.
        """
        length = len(buffer)
        start = round_down(physical, WINDOW)
        if length > _SMALL or physical + length > start + WINDOW:
            self._read(devid, buffer, physical)
            return
        window = self._window(devid, start)
        if window:
            buffer[:] = memoryview(window)[physical - start : physical - start + length]
        else:
            self._read(devid, buffer, physical)

    def filling(self, devid: int) -> Callable[[list[memoryview], int], int] | None:
        """Return what reads a device directly, for who reads often; None where that cannot be.

        It takes buffers and where to read, both as ``read_into`` has them, and says how many bytes it got, or raises
        OSError.
        """
        device = self._direct.get(devid)
        return partial(os.preadv, device.fileno()) if device else None

    def _window(self, devid: int, start: int) -> bytes | None:
        """Return the window at *start* of a device, None if it is asked for the first time or cannot be read."""
        key = (devid, start)
        with self._lock:
            window = self._windows.get(key)
            if window is not None:
                return window
            if key not in self._asked:
                self._asked[key] = None
                if len(self._asked) > _ASKED:
                    self._asked.popitem(last=False)
                return None
        whole = memoryview(mmap.mmap(-1, WINDOW))
        try:
            self._read(devid, whole, start)
        except DeviceError:  # in a part that nobody asked for, or the device ends there
            return None
        with self._lock:
            window = self._windows[key] = bytes(whole)
            if len(self._windows) > _WINDOWS:
                self._windows.popitem(last=False)
        return window

    def _read(self, devid: int, buffer: memoryview, physical: int) -> None:
        device = self._volume.devices.get(devid)
        if device is None:
            raise DeviceError(f"device {devid} is missing")
        direct = self._direct.get(devid)
        if direct is not None:
            try:
                direct.pread_into(buffer, physical)
            except DeviceError:  # its blocks may be larger than our sectors
                pass
            else:
                return
        device.pread_into(buffer, physical)
        os.posix_fadvise(device.fileno(), physical, len(buffer), os.POSIX_FADV_DONTNEED)
