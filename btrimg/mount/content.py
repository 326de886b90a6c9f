"""What files are made of, and which of them the kernel has open for others to pass through to.

Two files whose extent lists are equal, item for item, have equal bytes: a snapshot's copy of a file, a reflink of a
whole file, and inline data copied with the leaf they stand in. The hidden mount shows one file for each such list,
under the number of the first visible file that was opened with it; every visible file that has the list passes through
to it, so that all of them are read and mapped through one set of pages.
"""

from __future__ import annotations

import fcntl
import os
import threading
from collections import OrderedDict
from contextlib import suppress
from hashlib import blake2b
from typing import TYPE_CHECKING

import numpy as np

from btrimg.mount.hidden import name_of
from btrimg.mount.statistics import Use
from btrimg.mount.system import cached_bytes
from btrimg.mount.wire import (
    BACKING_CLOSE,
    BACKING_OPEN,
    BackingMap,
    OpenFlag,
    OpenOut,
)
from btrimg.ondisk.blocks import Key
from btrimg.ondisk.constants import U64_MAX, FileExtentType, ItemType

if TYPE_CHECKING:
    from collections.abc import Iterator

    from btrimg.mount.channel import Channel
    from btrimg.mount.tree import FileData, Files
    from btrimg.pagecache.schemes import Domains

_IDLE_BACKINGS = 8192  #: files that nobody has open but that stay open in the kernel, about 1 KiB each
_CONTENTS, _KNOWN = 262144, 524288  #: contents, and files, that are remembered; about 500 bytes each


def identity(data: FileData, domain: int) -> bytes:
    """Return what two files of one trust *domain* have in common exactly if they are made of the same extents.

    It is a hash of size, kind of checksumming and EXTENT_DATA items; those that read as zeros do not count.
    """
    digest = blake2b(b"%d %d %d" % (domain, data.size, data.checksummed), digest_size=20)
    first = Key(data.ino, ItemType.EXTENT_DATA, 0)
    for key, payload in data.tree.items(first, first._replace(offset=U64_MAX)):
        kind = payload[20:21]
        if kind == _INLINE or (kind == _REGULAR and payload[21:29] != _NOWHERE):
            digest.update(b"%d %d " % (key.offset, len(payload)) + payload)
    return digest.digest()


_NOWHERE = bytes(8)  # the address of a hole
_INLINE, _REGULAR = bytes([FileExtentType.INLINE]), bytes([FileExtentType.REGULAR])


class Content:
    """One distinct content: a file of the hidden mount."""

    __slots__ = ("answer", "backing", "identity", "number", "sharers", "size", "users")

    def __init__(self, number: int, identity: bytes, size: int) -> None:
        self.number, self.identity, self.size = number, identity, size
        self.backing = 0  #: the kernel's id, 0 for none
        self.answer = b""  #: to OPEN of a visible file, while there is a backing
        self.users = 0  #: visible files that are open
        self.sharers: set[int] = set()  #: numbers of visible files that were opened with it


class Contents:
    """The distinct contents of the files that were opened; of those that nobody uses, the last ones.

    Subvolumes share with those of their trust domain only.
    """

    def __init__(self, files: Files, domains: Domains) -> None:
        self._files, self._domains = files, domains
        self._numbers: dict[int, int] = {}  # of domains, by subvolume
        self.lock = threading.Lock()
        self._contents: OrderedDict[bytes, Content] = OrderedDict()  # by identity, the oldest first
        self._by_number: dict[int, Content] = {}
        self._known: OrderedDict[int, Content] = OrderedDict()  # by number of the visible file

    def use(self, number: int) -> Content:
        """Return the content of a visible regular file, which stays until it is given back by ``unuse``."""
        with self.lock:
            content = self._known.get(number)
            if content is not None:
                content.users += 1
                return content
        data = self._files.data(number)
        with self._files.lock:
            key = identity(data, self._domain_of(data.subvolume))
        with self.lock:
            content = self._contents.get(key)
            if content is None:
                content = self._contents[key] = self._by_number[number] = Content(number, key, data.size)
                self._drop_oldest()
            content.users += 1
            content.sharers.add(number)
            self._known[number] = content
            if len(self._known) > _KNOWN:
                oldest, its_content = self._known.popitem(last=False)
                its_content.sharers.discard(oldest)
        return content

    def _drop_oldest(self) -> None:
        """Forget the oldest content, if there are many and nobody uses it: its next user has pages of their own."""
        if len(self._contents) <= _CONTENTS:
            return
        key, oldest = next(iter(self._contents.items()))
        self._contents.move_to_end(key)
        if not oldest.users and not oldest.backing:
            del self._contents[key], self._by_number[oldest.number]
            for number in oldest.sharers:
                self._known.pop(number, None)

    def _domain_of(self, subvolume: int) -> int:
        number = self._numbers.get(subvolume)
        if number is None:
            number = self._numbers[subvolume] = int(self._domains.domain_of(np.array([subvolume], np.int64))[0])
        return number

    def unuse(self, number: int) -> Content:
        """Take back one ``use`` of the content with that number, and return it; ``lock`` is held."""
        content = self._by_number[number]
        content.users -= 1
        return content

    def all(self) -> list[Content]:
        """Return every content that there is."""
        with self.lock:
            return list(self._contents.values())


class Backings:
    """The hidden files that the kernel has open, for visible ones to pass through to.

    *visible* is the channel of the visible mount, *hidden* a descriptor of the top of the hidden one.
    """

    def __init__(self, visible: Channel, hidden: int, contents: Contents) -> None:
        self._visible, self._hidden, self._contents = visible, hidden, contents
        self._idle: OrderedDict[int, Content] = OrderedDict()
        self._opening = threading.Lock()

    def use(self, number: int) -> Content:
        """Return the content of a visible file, its hidden file open, until it is given back by ``release``."""
        content = self._contents.use(number)
        try:
            if not content.backing:
                with self._opening:  # of two ids, one inode could use only one at a time
                    if not content.backing:
                        backing = self._open(content)
                        flags = OpenFlag.PASSTHROUGH | OpenFlag.NOFLUSH
                        content.answer = OpenOut(content.number, flags, backing).pack()
                        content.backing = backing
        except BaseException:
            self.release(content.number)
            raise
        return content

    def _open(self, content: Content) -> int:
        fd = os.open(name_of(content.number, content.size), os.O_RDONLY | os.O_CLOEXEC, dir_fd=self._hidden)
        try:
            number: int = fcntl.ioctl(self._visible.fd, BACKING_OPEN, bytearray(BackingMap(fd, 0, 0).pack()))
            return number
        finally:
            os.close(fd)

    def in_memory(self) -> Iterator[Use]:
        """Yield every content with what the kernel holds of it."""
        for content in self._contents.all():
            with suppress(OSError):
                fd = os.open(name_of(content.number, content.size), os.O_RDONLY | os.O_CLOEXEC, dir_fd=self._hidden)
                try:
                    yield Use(content.size, cached_bytes(fd), frozenset(content.sharers))
                finally:
                    os.close(fd)

    def release(self, number: int) -> None:
        """Take back one ``use`` of the content with that number; hidden files that are long unused are closed."""
        with self._contents.lock:
            content = self._contents.unuse(number)
            if content.users:
                return
            self._idle[number] = content
            self._idle.move_to_end(number)
            if len(self._idle) <= _IDLE_BACKINGS:
                return
            _, oldest = self._idle.popitem(last=False)
            backing = 0 if oldest.users else oldest.backing
            if not oldest.users:
                oldest.backing = 0
        if backing:
            fcntl.ioctl(self._visible.fd, BACKING_CLOSE, backing.to_bytes(4, "little"))
