"""Pages that lie on no device as a file has them, for views: decompressed, rebuilt, put together of parts.

They are in a memory file, so that several views map the same pages, and go with the last view that shows them.
"""

from __future__ import annotations

import os
import weakref
from contextlib import suppress
from threading import Lock
from typing import TYPE_CHECKING

from btrimg.errors import DeviceError
from btrimg.units import round_up
from btrimg.volume.holes import punch
from btrimg.volume.mapping import GRAIN

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable


class Memory:
    """A memory file; no place in it is used twice, so that nothing stale ever shows something else."""

    def __init__(self) -> None:
        self.fd = os.memfd_create("btrimg-views", os.MFD_CLOEXEC)
        self._end = 0
        self._lock = Lock()
        weakref.finalize(self, os.close, self.fd)

    def write(self, parts: Iterable[bytes]) -> tuple[int, int]:
        """Keep *parts*, one after the other; return where they start and how many bytes of whole pages they take.

        Raises DeviceError when there is no memory for them.
        """
        with self._lock:
            start = at = self._end
            try:
                for part in parts:
                    left = memoryview(part)
                    while left:
                        count = os.pwrite(self.fd, left, at)
                        left, at = left[count:], at + count
                end = round_up(at, GRAIN)
                os.ftruncate(self.fd, end)
            except OSError as error:
                raise DeviceError(f"cannot keep decoded pages in memory: {error.strerror}") from None
            self._end = end
        return start, end - start


class Held:
    """Pages in memory that are given back when the last one lets go of this object."""

    __slots__ = ("__weakref__", "length", "memory", "offset")

    def __init__(self, memory: Memory, parts: Iterable[bytes]) -> None:
        self.memory = memory
        self.offset, self.length = memory.write(parts)

    def __del__(self) -> None:
        with suppress(OSError, AttributeError):  # AttributeError: there was nothing to be kept
            punch(self.memory.fd, self.offset, self.length)


class Decoded:
    """What is held, by key; each once for as long as anybody has it."""

    def __init__(self) -> None:
        self._memory = Memory()
        self._held: weakref.WeakValueDictionary[Hashable, Held] = weakref.WeakValueDictionary()

    def hold(self, key: Hashable, make: Callable[[], Iterable[bytes]]) -> Held:
        """Return the pages called *key*, which *make* gives the bytes of if nobody holds them."""
        found = self._held.get(key)
        if found is None:
            made = Held(self._memory, make())
            found = self._held.setdefault(key, made)  # another thread may have been faster
        return found
