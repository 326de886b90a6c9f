"""What files are made of, and the hidden mount that has each distinct content once.

Two files whose extent lists are equal, item for item, have equal bytes: a snapshot's copy of a file, a reflink of a
whole file, and inline data copied with the leaf they stand in. The hidden mount shows one file for each such list,
under the number of the first visible file that was opened with it; every visible file that has the list passes through
to it, so that all of them are read and mapped through one set of pages. It hangs nowhere: nobody else can open its
files.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import threading
from collections import OrderedDict
from hashlib import blake2b
from typing import TYPE_CHECKING

from btrimg.mount.channel import RefusedRequest
from btrimg.mount.wire import (
    BACKING_CLOSE,
    BACKING_OPEN,
    ROOT,
    Attr,
    AttrOut,
    BackingMap,
    BatchForgetIn,
    EntryOut,
    ForgetIn,
    Opcode,
    OpenFlag,
    OpenOut,
    ReadIn,
)
from btrimg.ondisk.blocks import Key
from btrimg.ondisk.constants import U64_MAX, FileExtentType, ItemType

if TYPE_CHECKING:
    from collections.abc import Sequence

    from btrimg.filesystem.inode import Inode
    from btrimg.mount.channel import Channel, Handler
    from btrimg.mount.reading import Reader
    from btrimg.mount.tree import Files

FOREVER = 1 << 32  #: seconds: nothing that is mounted here ever changes
_IDLE_BACKINGS = 8192  #: files that nobody has open but that stay open in the kernel, about 1 KiB each
_KNOWN = 65536  #: files whose content is remembered
_BLOCK = 4096  #: st_blksize of hidden files


def identity(inode: Inode, domain: int) -> bytes:
    """Return what two files of one trust *domain* have in common exactly if they are made of the same extents.

    It is a hash of size, kind of checksumming and EXTENT_DATA items; those that read as zeros do not count.
    """
    item = inode.item
    digest = blake2b(b"%d %d %d" % (domain, item.size, inode.checksummed), digest_size=20)
    first = Key(inode.ino, ItemType.EXTENT_DATA, 0)
    for key, payload in inode.subvolume.tree.items(first, first._replace(offset=U64_MAX)):
        kind = payload[20:21]
        if kind == _INLINE or (kind == _REGULAR and any(payload[21:29])):
            digest.update(b"%d %d " % (key.offset, len(payload)) + payload)
    return digest.digest()


_INLINE, _REGULAR = bytes([FileExtentType.INLINE]), bytes([FileExtentType.REGULAR])


class Content:
    """One distinct content: a file of the hidden mount."""

    __slots__ = ("answer", "backing", "identity", "lookups", "number", "sharers", "size", "users")

    def __init__(self, number: int, identity: bytes, size: int) -> None:
        self.number, self.identity, self.size = number, identity, size
        self.backing = 0  #: the kernel's id, 0 for none
        self.answer = b""  #: to OPEN of a visible file, while there is a backing
        self.users = 0  #: visible files that are open
        self.lookups = 0  #: how often the kernel was given it, and has not forgotten
        self.sharers: set[int] = set()  #: numbers of visible files that were opened with it


class Contents:
    """All distinct contents that are in use or in the kernel's cache.

    *domains* are sets of subvolumes that trust each other; without any, all do, and with some, only those.
    """

    def __init__(self, files: Files, domains: Sequence[Sequence[int]]) -> None:
        self._files = files
        self._domains = {subvolume: 2 * at for at, members in enumerate(domains, 1) for subvolume in members}
        self.lock = threading.Lock()
        self._by_identity: dict[bytes, Content] = {}
        self._by_number: dict[int, Content] = {}
        self._known: OrderedDict[int, Content] = OrderedDict()

    def use(self, number: int) -> Content:
        """Return the content of a visible regular file, which stays until it is given back by ``unuse``."""
        with self.lock:
            content = self._known.get(number)
            if content is not None and self._by_number.get(content.number) is content:
                content.users += 1
                return content
        with self._files.lock:
            inode = self._files.inode(number)
            key = identity(inode, self._domain_of(inode.subvolume.id))
            size = inode.item.size
        with self.lock:
            content = self._by_identity.get(key)
            if content is None:
                content = Content(number, key, size)
                self._by_identity[key] = self._by_number[number] = content
            content.users += 1
            content.sharers.add(number)
            self._known[number] = content
            if len(self._known) > _KNOWN:
                self._known.popitem(last=False)
        return content

    def _domain_of(self, subvolume: int) -> int:
        """Return the number of a subvolume's trust domain: without domains there is one, else strangers are alone."""
        return self._domains.get(subvolume, 2 * subvolume + 1) if self._domains else 0

    def unuse(self, number: int) -> Content:
        """Take back one ``use`` of the content with that number, and return it; ``lock`` is held."""
        content = self._by_number[number]
        content.users -= 1
        return content

    def found(self, number: int) -> Content:
        """Return the content with that number, which the kernel is given once more; raises RefusedRequest."""
        with self.lock:
            content = self._by_number.get(number)
            if content is None:
                raise RefusedRequest(errno.ENOENT)
            content.lookups += 1
            return content

    def forget(self, number: int, count: int) -> None:
        """Hear that the kernel has forgotten *count* lookups; what it does not know any more goes."""
        with self.lock:
            content = self._by_number.get(number)
            if content is not None:
                content.lookups -= count
                self.drop_unused(content)

    def drop_unused(self, content: Content) -> None:
        """Let a content go that neither the kernel nor anybody else uses; ``lock`` is held."""
        if content.lookups <= 0 and not content.users and not content.backing:
            self._by_number.pop(content.number, None)
            self._by_identity.pop(content.identity, None)

    def all(self) -> list[Content]:
        """Return every content that there is."""
        with self.lock:
            return list(self._by_number.values())


class HiddenFiles:
    """The hidden mount: answers for its channel."""

    def __init__(self, channel: Channel, files: Files, contents: Contents, reader: Reader) -> None:
        self._channel, self._files, self._contents, self._reader = channel, files, contents, reader
        self._owner = os.getuid(), os.getgid()
        self.handlers: dict[int, Handler] = {
            Opcode.LOOKUP: self._lookup,
            Opcode.GETATTR: self._getattr,
            Opcode.READ: self._read,
            Opcode.FORGET: self._forget,
            Opcode.BATCH_FORGET: self._batch_forget,
        }

    def _attributes(self, number: int, size: int) -> Attr:
        mode = stat.S_IFDIR | 0o500 if number == ROOT else stat.S_IFREG | 0o400
        return Attr(number, size, (size + 511) >> 9, *(0,) * 6, mode, 1, *self._owner, 0, _BLOCK, 0)

    def _lookup(self, _parent: int, body: bytes, _unique: int) -> bytes:
        content = self._contents.found(_number_of(body[:-1]))
        attr = self._attributes(content.number, content.size)
        return EntryOut(content.number, 0, FOREVER, FOREVER, 0, 0, attr).pack()

    def _getattr(self, number: int, _body: bytes, _unique: int) -> bytes:
        size = 0
        if number != ROOT:
            with self._files.lock:
                size = self._files.inode(number).item.size
        return AttrOut(FOREVER, 0, 0, self._attributes(number, size)).pack()

    def _read(self, number: int, body: bytes, unique: int) -> memoryview:
        asked = ReadIn.unpack(body)
        with self._files.lock:
            inode = self._files.inode(number)
        self._channel.start(unique)
        try:
            return self._reader.read(inode, asked.offset, asked.size, lambda: self._channel.check(unique))
        finally:
            self._channel.finish(unique)

    def _forget(self, number: int, body: bytes, _unique: int) -> None:
        self._contents.forget(number, ForgetIn.unpack(body).nlookup)

    def _batch_forget(self, _number: int, body: bytes, _unique: int) -> None:
        for node in BatchForgetIn.unpack(body).nodes:
            self._contents.forget(node.nodeid, node.nlookup)


def _name_of(number: int) -> bytes:
    """Return the name that a content has in the hidden mount."""
    return b"%x" % number


def _number_of(name: bytes) -> int:
    try:
        return int(name, 16)
    except ValueError:
        raise RefusedRequest(errno.ENOENT) from None


class Backings:
    """The hidden files that the kernel has open, for visible ones to pass through to.

    *visible* is the connection of the visible mount, *hidden* a descriptor of the top of the hidden one.
    """

    def __init__(self, visible: int, hidden: int, contents: Contents) -> None:
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
        fd = os.open(_name_of(content.number), os.O_RDONLY | os.O_CLOEXEC, dir_fd=self._hidden)
        try:
            number: int = fcntl.ioctl(self._visible, BACKING_OPEN, bytearray(BackingMap(fd, 0, 0).pack()))
            return number
        finally:
            os.close(fd)

    def release(self, number: int) -> None:
        """Take back one ``use`` of the content with that number; hidden files that are long unused are closed."""
        contents = self._contents
        with contents.lock:
            content = contents.unuse(number)
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
                contents.drop_unused(oldest)
        if backing:
            fcntl.ioctl(self._visible, BACKING_CLOSE, backing.to_bytes(4, "little"))
