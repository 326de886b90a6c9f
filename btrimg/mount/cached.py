"""Sharing without the kernel's help: what is read comes from one cache of pages, in which extents are keys.

The kernel is told to keep nothing of what is read (FOPEN_DIRECT_IO). What is mapped it keeps for each inode.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING

from btrimg.mount.statistics import Use
from btrimg.mount.wire import OpenFlag, OpenOut
from btrimg.pagecache.cache import PageCache
from btrimg.pagecache.pages import PAGE
from btrimg.units import MIB

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from btrimg.mount.tree import Files
    from btrimg.pagecache.handle import CachedFile
    from btrimg.pagecache.schemes import Domains
    from btrimg.pagecache.store import PageKey

_HANDLES = 4096  #: files whose keys are remembered
_ANSWER = OpenOut(0, OpenFlag.DIRECT_IO | OpenFlag.NOFLUSH, 0).pack()


class Cached:
    """Files of equal extents share pages of a store, *size* bytes of them at most."""

    name, opens = "cache", True

    def __init__(self, files: Files, domains: Domains, size: int) -> None:
        self._files = files
        self._cache = PageCache(files.image, budget=size, policy="s3-fifo", domains=domains, direct=True)
        files.lock = self._cache.store.filling  # one lock for all who look into the trees
        self._handles: OrderedDict[int, CachedFile] = OrderedDict()
        self._memory = threading.local()
        self.sentence = f"files that share extents share {size // MIB} MiB of memory, read but not mapped (a cache)"

    def open(self, number: int, _body: bytes, _unique: int) -> bytes:
        """Return that the kernel is to keep nothing of the file."""
        self._handle(number)
        return _ANSWER

    def release(self, _number: int, _body: bytes, _unique: int) -> bytes:
        """Do nothing: pages stay until there is no room."""
        return b""

    def _handle(self, number: int) -> CachedFile:
        with self._files.lock:
            handle = self._handles.get(number)
            if handle is None:
                handle = self._handles[number] = self._cache.open(self._files.inode(number))
                if len(self._handles) > _HANDLES:
                    self._handles.popitem(last=False)
        return handle

    def read(self, number: int, _fh: int, offset: int, size: int, check: Callable[[], None]) -> memoryview:
        """Return bytes of the file, from the cache or, verified, from the devices."""
        check()
        room = self._room()
        return room[: self._handle(number).readinto(room[:size], offset)]

    def _room(self) -> memoryview:
        room: memoryview | None = getattr(self._memory, "room", None)
        if room is None:
            room = self._memory.room = memoryview(bytearray(2 * MIB))
        return room

    def in_memory(self) -> Iterable[Use]:
        """Yield the contents of the files that were opened; what two share in part counts for both."""
        store = self._cache.store
        with self._files.lock:
            handles = list(self._handles.items())
        groups: dict[tuple[tuple[PageKey, int], ...], list[tuple[int, CachedFile]]] = {}
        for number, handle in handles:
            groups.setdefault(tuple(handle.keys()), []).append((number, handle))
        for keys, same in groups.items():
            with store.lock:
                resident = sum(run.pages for key, pages in keys for run in store.find(key, pages))
            yield Use(same[0][1].size, resident * PAGE, frozenset(number for number, _ in same))
