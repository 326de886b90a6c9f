"""The memory of a cache: page frames, one after the other, in a file of memory that other processes can map."""

from __future__ import annotations

import mmap
import os
from contextlib import suppress
from typing import TYPE_CHECKING

from btrimg.errors import DeviceError, UnsupportedError
from btrimg.pagecache.pages import PAGE
from btrimg.units import MIB

if TYPE_CHECKING:
    from collections.abc import Sequence

    from typing_extensions import Buffer

_PIECES = 1024  # that one call takes (IOV_MAX)
_MANY = 64 * MIB  # bytes from which on huge pages are worth the part of one that is not used


class Arena:
    """Memory for *pages* pages; those that were never written to take none. Raises UnsupportedError without room."""

    def __init__(self, pages: int) -> None:
        self.length = max(pages, 1) * PAGE
        self.fd = os.memfd_create("btrimg-pages")  #: frame k is at byte k * PAGE of it
        try:
            os.ftruncate(self.fd, self.length)
            self._map = mmap.mmap(self.fd, self.length)
        except (OSError, OverflowError, ValueError) as error:
            os.close(self.fd)
            raise UnsupportedError(f"cannot reserve {self.length} bytes for pages: {error}") from None
        if self.length >= _MANY:
            with suppress(OSError):  # a kernel without such pages
                self._map.madvise(mmap.MADV_HUGEPAGE)
        self.memory = memoryview(self._map)

    def frames(self, frames: range) -> memoryview:
        """Return the bytes of some frames, side by side."""
        return self.memory[frames.start * PAGE : frames.stop * PAGE]

    def write(self, frame: int, pieces: Sequence[Buffer]) -> None:
        """Fill frames from *frame* on with *pieces*, one after the other. Raises DeviceError without memory for them.

        This takes two thirds of the time of storing to memory that is not there yet: each page of that is a fault, and
        zeros first.
        """
        at = frame * PAGE
        for first in range(0, len(pieces), _PIECES):
            left = [memoryview(piece) for piece in pieces[first : first + _PIECES]]
            while left:
                try:
                    count = os.pwritev(self.fd, left, at)
                except OSError as error:
                    raise DeviceError(f"cannot keep pages in memory: {error.strerror}") from None
                at += count
                while left and count >= len(left[0]):
                    count -= len(left.pop(0))
                if left:
                    left[0] = left[0][count:]

    def close(self) -> None:
        """Give the memory back, unless something maps the file; a second call does nothing."""
        if self.fd >= 0:
            self.memory.release()
            with suppress(BufferError):  # who holds a piece of it still, a traceback perhaps, takes it along
                self._map.close()
            os.close(self.fd)
            self.fd = -1
