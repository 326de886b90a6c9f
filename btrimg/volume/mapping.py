"""Memory that shows parts of devices: read-only ranges of addresses, composed of mappings.

What is mapped is the page cache of the image files themselves: a part that many areas show, in any process, is one set
of page frames, and nothing is copied.
"""

from __future__ import annotations

import ctypes
import errno
import os
from mmap import MAP_ANONYMOUS, MAP_PRIVATE, MAP_SHARED, PAGESIZE, PROT_READ, mmap
from typing import TYPE_CHECKING, Self

from btrimg.errors import DeviceError, UnsupportedError
from btrimg.units import round_up

if TYPE_CHECKING:
    from btrimg.volume.device import Device

GRAIN = PAGESIZE  #: bytes; all addresses and offsets of mappings are multiples of it
AREA_MAX = 1 << 45  #: bytes of one area, a quarter of a process's addresses on x86-64

_MAP_FIXED, _POPULATE_READ = 0x10, 22  # include/uapi/asm-generic/mman-common.h; not in module mmap

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap64.restype = ctypes.c_void_p
_libc.mmap64.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_int64]
_libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
_FAILED = ctypes.c_void_p(-1).value


class Area(mmap):
    """A range of addresses that can be read as a buffer: zeros, but for what is laid into it.

    What is made of it (a memoryview, a numpy array) holds on to it, and all mappings go with the last user: ``mmap``
    unmaps its whole range when it is freed, whatever lies there by then, and refuses to be closed while it is in use.

    A device that is cut after it was laid in takes the program down (SIGBUS) when a byte is read that is no longer
    there; so does an error of the disk.
    """

    __slots__ = ("_address", "_kept")
    _address: int
    _kept: list[object]

    def __new__(cls, length: int) -> Self:
        """Reserve *length* bytes, at least 1; raise UnsupportedError when there is no room for so many."""
        try:
            if length > AREA_MAX:
                raise OverflowError("it is more than any process maps")
            # Of memory that only can be read nothing is committed: its pages are the one page of zeros.
            self = super().__new__(cls, -1, length, flags=MAP_PRIVATE | MAP_ANONYMOUS, prot=PROT_READ)
        except (OSError, OverflowError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise UnsupportedError(f"cannot reserve {length} bytes of addresses: {reason}") from None
        self._address, self._kept = _address_of(self), []
        return self

    def keep(self, thing: object) -> None:
        """Hold on to *thing* for as long as there is a user of the area."""
        self._kept.append(thing)

    def lay(self, at: int, length: int, device: Device, physical: int) -> None:
        """Show *length* bytes of *device* from *physical* on at byte *at*; it and *physical* are multiples of GRAIN.

        Raises DeviceError where the device ends by now, UnsupportedError when there are too many mappings.
        """
        _require(device, physical, length)
        self._lay(at, length, device.fileno(), physical, device.path)

    def lay_memory(self, at: int, length: int, fd: int, offset: int) -> None:
        """Show *length* bytes of a memory file, which holds them, from *offset* on at byte *at*; see :meth:`lay`."""
        self._lay(at, length, fd, offset, "memory")

    def _lay(self, at: int, length: int, fd: int, offset: int, what: str) -> None:
        if not 0 <= at < at + length <= round_up(len(self), GRAIN) or at % GRAIN:  # it would hit other memory
            raise ValueError(f"{length} bytes at {at} do not lie within {len(self)}")
        found = _libc.mmap64(self._address + at, length, PROT_READ, MAP_SHARED | _MAP_FIXED, fd, offset)
        if found == _FAILED:
            number = ctypes.get_errno()
            if number == errno.ENOMEM:
                raise UnsupportedError(f"there are too many mappings, at most {most_mappings()} (vm.max_map_count)")
            raise DeviceError(f"cannot map {length} bytes at {offset} of {what}: {os.strerror(number)}")


class Window(mmap):
    """A range of a device, to be read as a buffer where it was loaded.

    The kernel chooses the address so that large pages of its cache are mapped whole: mapping 16 MiB of them takes
    0.1 ms, and 2 ms where an :class:`Area` shows them at another offset.
    """

    __slots__ = ("_address",)
    _address: int

    def __new__(cls, device: Device, physical: int, length: int) -> Self:
        """Map *length* bytes, at least 1, from *physical* on, a multiple of GRAIN.

        Raises DeviceError where the device ends by now, UnsupportedError when there is no room for so many.
        """
        _require(device, physical, length)
        try:
            self = super().__new__(cls, device.fileno(), length, prot=PROT_READ, offset=physical)
        except OSError as error:
            raise UnsupportedError(f"cannot map {length} bytes of {device.path}: {error.strerror}") from None
        self._address = _address_of(self)
        return self

    def load(self, at: int, length: int) -> bool:
        """Bring *length* bytes from *at* on, multiples of GRAIN, into memory; return whether all are there.

        They are not where the device cannot be read, and before Linux 5.14. Others may run Python meanwhile.
        """
        return not _libc.madvise(self._address + at, length, _POPULATE_READ)


def _require(device: Device, physical: int, length: int) -> None:
    size = os.lseek(device.fileno(), 0, os.SEEK_END)
    if physical + length > size:
        raise DeviceError(f"{device.path} ends at {size}: no {length} bytes at {physical}")


def _address_of(area: mmap) -> int:
    import numpy as np

    address: int = np.frombuffer(area, np.uint8).__array_interface__["data"][0]
    return address


def most_mappings() -> int:
    """Return how many mappings a process may have."""
    with open("/proc/sys/vm/max_map_count", encoding="ascii") as file:
        return int(file.read())
