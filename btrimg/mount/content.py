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
from collections import OrderedDict, deque
from contextlib import suppress
from hashlib import blake2b
from typing import TYPE_CHECKING

import numpy as np

from btrimg.mount.hidden import name_of
from btrimg.mount.statistics import Use
from btrimg.mount.wire import (
    BACKING_CLOSE,
    BACKING_OPEN,
    BackingMap,
    OpenFlag,
    OpenOut,
)
from btrimg.ondisk.blocks import Key
from btrimg.ondisk.constants import U64_MAX, FileExtentType, ItemType
from btrimg.volume.cachestat import cached_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from btrimg.mount.channel import Channel
    from btrimg.mount.tree import FileData, Files
    from btrimg.pagecache.schemes import Domains

_BACKINGS = 8192  #: files that stay open in the kernel when nobody has them open any more, about 1 KiB each
_STEPS = 64  #: the most that are looked at to find one to close
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

    __slots__ = ("answer", "backing", "identity", "number", "recent", "sharers", "size", "users")

    def __init__(self, number: int, identity: bytes, size: int) -> None:
        self.number, self.identity, self.size = number, identity, size
        self.backing = 0  #: the kernel's id, 0 for none
        self.answer = b""  #: to OPEN of a visible file, while there is a backing
        self.users = 0  #: visible files that are open
        self.recent = False  #: whether one was closed since somebody looked for a backing to close
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

    def open_again(self, number: int) -> bytes:
        """Return the answer to OPEN of a visible file, in use from now on, if it is there from another time."""
        with self.lock:
            content = self._known.get(number)
            if content is None or not content.answer:
                return b""
            content.users += 1
            return content.answer

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

    def unuse(self, number: int) -> None:
        """Take back one ``use`` of the content with that number."""
        with self.lock:
            content = self._by_number[number]
            content.users -= 1
            content.recent = True

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
        self._open: deque[Content] = deque()  # those with a backing, in the order in which they are looked at
        self._opening = threading.Lock()

    def open(self, number: int) -> bytes:
        """Return the answer to OPEN of a visible file, whose hidden file is open until it is given back."""
        answer = self._contents.open_again(number)
        if answer:
            return answer
        content = self._contents.use(number)
        try:
            with self._opening:  # of two ids, one inode could use only one at a time
                if not content.answer:
                    content.backing = self._open_hidden(content)
                    flags = OpenFlag.PASSTHROUGH | OpenFlag.NOFLUSH
                    content.answer = OpenOut(content.number, flags, content.backing).pack()
                    self._open.append(content)
                    self._close_idle()
        except BaseException:
            self.release(content.number)
            raise
        return content.answer

    def _close_idle(self) -> None:
        """If many hidden files are open, look for one that nobody uses or has used since it was looked at; close it."""
        for _ in range(min(len(self._open) - _BACKINGS, _STEPS)):
            content = self._open.popleft()
            with self._contents.lock:
                backing = 0 if content.users or content.recent else content.backing
                content.recent = False
                if backing:
                    content.backing, content.answer = 0, b""
            if backing:
                fcntl.ioctl(self._visible.fd, BACKING_CLOSE, backing.to_bytes(4, "little"))
            else:
                self._open.append(content)

    def release(self, number: int) -> None:
        """Take back one use of the content with that number."""
        self._contents.unuse(number)

    def _open_hidden(self, content: Content) -> int:
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
