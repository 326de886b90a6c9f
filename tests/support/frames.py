"""The physical memory behind addresses, as the kernel tells root."""

from __future__ import annotations

import mmap
import struct

import numpy as np

_FRAME = (1 << 55) - 1  # of an entry of /proc/PID/pagemap (Documentation/admin-guide/mm/pagemap.rst)


def frames_of(*buffers: memoryview | mmap.mmap) -> list[list[int]]:
    """Return the numbers of the page frames behind buffers, of all of them at one time; every page has one.

    The kernel takes pages away, and moves them to other frames to make room, whenever it likes: they are touched and
    looked at until nothing has changed.
    """
    arrays = [np.frombuffer(buffer, np.uint8) for buffer in buffers]
    before: list[list[int]] = []
    while True:
        for array in arrays:
            int(array[:: mmap.PAGESIZE].sum())
        found = [frames_at(array.ctypes.data, len(array)) for array in arrays]
        if found == before and all(map(all, found)):
            return found
        before = found


def frames_at(address: int, length: int) -> list[int]:
    """Return the numbers of the page frames behind an address of this process, 0 where there is none."""
    with open("/proc/self/pagemap", "rb") as pagemap:
        pagemap.seek(address // mmap.PAGESIZE * 8)
        entries = struct.unpack(f"={-(-length // mmap.PAGESIZE)}Q", pagemap.read(-(-length // mmap.PAGESIZE) * 8))
    return [entry & _FRAME if entry >> 63 else 0 for entry in entries]
