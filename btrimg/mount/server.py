"""The visible mount: an answer to every request of the kernel."""

from __future__ import annotations

import errno
import stat
from collections import OrderedDict
from typing import TYPE_CHECKING

from btrimg.errors import NotFoundError
from btrimg.mount.channel import RefusedRequest
from btrimg.mount.statistics import STATISTICS_XATTR
from btrimg.mount.wire import (
    FOREVER,
    ROOT,
    Attr,
    AttrOut,
    Dirent,
    DirentPlus,
    EntryOut,
    GetxattrIn,
    GetxattrOut,
    LseekIn,
    LseekOut,
    Opcode,
    ReadIn,
    ReleaseIn,
    StatfsOut,
    StatxOut,
)
from btrimg.units import round_up

if TYPE_CHECKING:
    from collections.abc import Callable

    from btrimg.mount.channel import Channel, Handler
    from btrimg.mount.sharing import Sharing
    from btrimg.mount.tree import Entry, Files

_NO_ENTRY = EntryOut(0, 0, FOREVER, 0, 0, 0, Attr(*(0,) * 16)).pack()
_NOT_LOOKED_UP = bytes(EntryOut.SIZE)
_PADDING = [bytes(-length % 8) for length in range(8)]  #: behind a name, by its length modulo 8
_UNKNOWN_INO = 0xFFFF_FFFF  #: of ``..``, as libfuse says it
_NAME_MAX = 255
_MODE = Attr.names().index("mode")
_EAGER, _LISTED = 1024, 256
_DOTS = (b".", b"..")


class Server:
    """Answers for the channel of the visible mount: each handler takes (nodeid, body, unique)."""

    def __init__(self, channel: Channel, files: Files, sharing: Sharing, statistics: Callable[[], bytes]) -> None:
        self._channel, self._files, self._sharing = channel, files, sharing
        self._eager = 0  # listings that will have attributes
        self._listed: OrderedDict[int, None] = OrderedDict()  # directories listed without
        self._virtual = {STATISTICS_XATTR: statistics}
        self.handlers: dict[int, Handler] = {
            Opcode.LOOKUP: self._lookup,
            Opcode.FORGET: self._forget,
            Opcode.BATCH_FORGET: self._forget,
            Opcode.GETATTR: self._getattr,
            Opcode.STATX: self._statx,
            Opcode.READLINK: self._readlink,
            Opcode.READ: self._read,
            Opcode.READDIR: self._readdir,
            Opcode.READDIRPLUS: self._readdirplus,
            Opcode.GETXATTR: self._getxattr,
            Opcode.LISTXATTR: self._listxattr,
            Opcode.LSEEK: self._lseek,
            Opcode.STATFS: self._statfs,
        }
        if sharing.opens:
            self.handlers |= {Opcode.OPEN: self._open, Opcode.RELEASE: self._release}

    def _lookup(self, parent: int, body: bytes, _unique: int) -> bytes:
        name = body[:-1]
        if len(name) > _NAME_MAX:
            raise RefusedRequest(errno.ENAMETOOLONG)
        try:
            number = self._files.child(parent, name)
        except NotFoundError:
            return _NO_ENTRY
        attributes = self._files.attributes(number)
        if parent in self._listed and not stat.S_ISDIR(attributes[_MODE]):
            self._eager = _EAGER
        return EntryOut.STRUCT.pack(number, 0, FOREVER, FOREVER, 0, 0, *attributes)

    def _forget(self, _number: int, _body: bytes, _unique: int) -> None:
        """Do nothing: numbers say what they stand for, and nothing is kept for them."""

    def _getattr(self, number: int, _body: bytes, _unique: int) -> bytes:
        return AttrOut.STRUCT.pack(FOREVER, 0, 0, *self._files.attributes(number))

    def _statx(self, number: int, _body: bytes, _unique: int) -> bytes:
        return StatxOut(FOREVER, 0, 0, (0, 0), self._files.statx(number)).pack()

    def _readlink(self, number: int, _body: bytes, _unique: int) -> bytes:
        return self._files.target(number)

    def _open(self, number: int, _body: bytes, _unique: int) -> bytes:
        return self._sharing.open(number)

    def _release(self, _number: int, body: bytes, _unique: int) -> bytes:
        self._sharing.release(ReleaseIn.STRUCT.unpack_from(body)[0])  # unpacked in full it takes four times as long
        return b""

    def _read(self, number: int, body: bytes, unique: int) -> bytes | memoryview:
        asked = ReadIn.unpack(body)
        with self._channel.lengthy(unique) as check:
            return self._sharing.read(number, asked.fh, asked.offset, asked.size, check)

    def _readdir(self, number: int, body: bytes, _unique: int) -> bytes:
        asked = ReadIn.unpack(body)
        return self._names(number, asked.offset, asked.size, b"")

    def _names(self, number: int, offset: int, room: int, head: bytes) -> bytes:
        """Return entries without attributes, each after *head*."""
        parts: list[bytes] = []
        pack, size = Dirent.STRUCT.pack, Dirent.SIZE + len(head)
        for off, (name, node, kind) in self._entries_from(number, offset, room // size):
            length = len(name)
            room -= size + length + 7 & ~7
            if room < 0:
                break
            parts += (head, pack(node or _UNKNOWN_INO, off, length, kind), name, _PADDING[length & 7])
        return b"".join(parts)

    def _readdirplus(self, number: int, body: bytes, _unique: int) -> bytes:
        asked = ReadIn.unpack(body)
        if not self._looks_up(number, asked.offset):
            return self._names(number, asked.offset, asked.size, _NOT_LOOKED_UP)
        chosen: list[tuple[int, Entry]] = []
        room = asked.size
        for off, entry in self._entries_from(number, asked.offset, room // DirentPlus.SIZE):
            room -= DirentPlus.SIZE + round_up(len(entry.name), 8)
            if room < 0:
                break
            chosen.append((off, entry))
        parts: list[bytes] = []
        pack, pack_name = DirentPlus.STRUCT.pack, Dirent.STRUCT.pack
        known = self._files.several([0 if entry.name in _DOTS else entry.number for _, entry in chosen])
        for (off, (name, node, kind)), attr in zip(chosen, known, strict=True):
            if attr:
                parts.append(pack(node, 0, FOREVER, FOREVER, 0, 0, *attr, node, off, len(name), kind))
            else:
                parts += (_NOT_LOOKED_UP, pack_name(node or _UNKNOWN_INO, off, len(name), kind))
            parts += (name, _PADDING[len(name) & 7])
        return b"".join(parts)

    def _looks_up(self, number: int, offset: int) -> bool:
        """Return whether a listing is to have attributes.

        The kernel asks for them in the first part of every listing. They cost more than the names; so they are given
        while somebody lists directories and then looks at the files, and not to who only looks for names.
        """
        if self._eager:
            self._eager -= offset == 0
            return True
        self._listed[number] = None
        if len(self._listed) > _LISTED:
            self._listed.popitem(last=False)
        return False

    def _entries_from(self, number: int, offset: int, most: int) -> list[tuple[int, Entry]]:
        """Return up to *most* entries from *offset* on, each with the offset behind it.

        After the last one of a directory that could not be read whole comes an error, so that nobody takes the
        listing for complete.
        """
        listing = self._files.listing(number)
        if offset >= len(listing.entries) and not listing.complete:
            raise RefusedRequest(errno.EIO)
        return list(enumerate(listing.entries[offset : offset + most], offset + 1))

    def _getxattr(self, number: int, body: bytes, _unique: int) -> bytes:
        name = body[GetxattrIn.SIZE : -1]
        if name in self._virtual and number == ROOT:
            self._channel.step_back()
            value = self._virtual[name]()
        else:
            found = self._files.xattrs(number).get(name)
            if found is None:
                raise RefusedRequest(errno.ENODATA)
            value = found
        return _as_much(value, GetxattrIn.unpack(body).size)

    def _listxattr(self, number: int, body: bytes, _unique: int) -> bytes:
        names = b"".join(name + b"\0" for name in self._files.xattrs(number))
        return _as_much(names, GetxattrIn.unpack(body).size)

    def _lseek(self, number: int, body: bytes, _unique: int) -> bytes:
        asked = LseekIn.unpack(body)
        return LseekOut(self._files.seek(number, asked.offset, asked.whence)).pack()

    def _statfs(self, _number: int, _body: bytes, _unique: int) -> bytes:
        superblock = self._files.image.superblock
        size = superblock.sectorsize
        blocks, free = superblock.total_bytes // size, max(superblock.total_bytes - superblock.bytes_used, 0) // size
        return StatfsOut(blocks, free, 0, 0, 0, size, _NAME_MAX, size, 0, (0,) * 6).pack()


def _as_much(value: bytes, size: int) -> bytes:
    """Return *value*, or its length if *size* is 0; raises RefusedRequest when it is longer than *size*."""
    if not size:
        return GetxattrOut(len(value), 0).pack()
    if len(value) > size:
        raise RefusedRequest(errno.ERANGE)
    return value
