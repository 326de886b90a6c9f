"""The physical memory behind addresses, as the kernel tells root."""

from __future__ import annotations

import mmap
import struct

_FRAME = (1 << 55) - 1  # of an entry of /proc/PID/pagemap (Documentation/admin-guide/mm/pagemap.rst)


def frames_at(address: int, length: int) -> list[int]:
    """Return the numbers of the page frames behind an address of this process, 0 where there is none."""
    with open("/proc/self/pagemap", "rb") as pagemap:
        pagemap.seek(address // mmap.PAGESIZE * 8)
        entries = struct.unpack(f"={-(-length // mmap.PAGESIZE)}Q", pagemap.read(-(-length // mmap.PAGESIZE) * 8))
    return [entry & _FRAME if entry >> 63 else 0 for entry in entries]
