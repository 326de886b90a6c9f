"""The visible mount: an answer to every request of the kernel."""

from __future__ import annotations

import errno
import os
import stat
import time
from collections import OrderedDict
from typing import TYPE_CHECKING

from btrimg.errors import NotFoundError
from btrimg.mount import handles
from btrimg.mount.channel import RefusedRequest
from btrimg.mount.ioctls import Ioctls
from btrimg.mount.listing import DIRECTORY, NAME_MAX
from btrimg.mount.statistics import STATISTICS_XATTR
from btrimg.mount.wire import (
    FOREVER,
    ROOT,
    AccessIn,
    Attr,
    AttrOut,
    Dirent,
    EntryOut,
    GetxattrIn,
    LseekIn,
    LseekOut,
    Opcode,
    ReadIn,
    StatfsOut,
    StatxOut,
)
from btrimg.mount.xattrs import as_much

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from btrimg.mount.channel import Channel, Handler
    from btrimg.mount.listing import Listing
    from btrimg.mount.sharing import Sharing
    from btrimg.mount.tree import Files
    from btrimg.mount.xattrs import Absent

_NO_ENTRY = EntryOut(0, 0, FOREVER, 0, 0, 0, Attr(*(0,) * 16)).pack()
_BY_HANDLE = {b".": handles.found, b"..": handles.above}  #: names that are asked for no path, but for handles
_NOT_LOOKED_UP = bytes(EntryOut.SIZE)
_MODE = Attr.names().index("mode")
_KIND = Dirent.STRUCT.size - 4  #: byte of a Dirent, the low one of ``type``
_FEW, _MANY = 16, 1024  #: listings that have all attributes
_LISTED, _SOON = 16, 2.0  #: directories, and seconds after which looking at files has nothing to do with listing them


class Server:
    """Answers for the channel of the visible mount: each handler takes (nodeid, body, unique)."""

    def __init__(
        self, channel: Channel, files: Files, sharing: Sharing, absent: Absent, statistics: Callable[[], bytes]
    ) -> None:
        self._channel, self._files, self._sharing, self._absent = channel, files, sharing, absent
        self._eager, self._streak = 0, _FEW  # listings that will have all attributes; how many those were at first
        self._listed: OrderedDict[int, float] = OrderedDict()  # directories listed without, and when
        self._virtual, self._owner = {STATISTICS_XATTR: statistics}, os.getuid()
        self.handlers: dict[int, Handler] = {
            Opcode.LOOKUP: self._lookup,
            Opcode.FORGET: self._forget,
            Opcode.BATCH_FORGET: self._forget,
            Opcode.GETATTR: self._getattr,
            Opcode.STATX: self._statx,
            Opcode.ACCESS: self._access,
            Opcode.READLINK: self._readlink,
            Opcode.READ: self._read,
            Opcode.READDIR: self._readdir,
            Opcode.READDIRPLUS: self._readdirplus,
            Opcode.GETXATTR: self._getxattr,
            Opcode.LISTXATTR: self._listxattr,
            Opcode.LSEEK: self._lseek,
            Opcode.STATFS: self._statfs,
            Opcode.IOCTL: Ioctls(files),
        }
        if sharing.opens:
            self.handlers |= {Opcode.OPEN: sharing.open, Opcode.RELEASE: sharing.release}

    def _lookup(self, parent: int, body: bytes, _unique: int) -> bytes:
        name = body[:-1]
        if len(name) > NAME_MAX:
            raise RefusedRequest(errno.ENAMETOOLONG)
        try:
            by_handle = _BY_HANDLE.get(name)
            number = by_handle(self._files, parent) if by_handle else self._files.child(parent, name)
        except NotFoundError:
            return _NO_ENTRY
        attributes = self._files.attributes(number)
        if parent in self._listed and not stat.S_ISDIR(attributes[_MODE]):
            self._looked_up(parent)
        return EntryOut.STRUCT.pack(number, 0, FOREVER, FOREVER, 0, 0, *attributes)

    def _forget(self, _number: int, _body: bytes, _unique: int) -> None:
        """Do nothing: numbers say what they stand for, and nothing is kept for them."""

    def _getattr(self, number: int, _body: bytes, _unique: int) -> bytes:
        return AttrOut.STRUCT.pack(FOREVER, 0, 0, *self._files.attributes(number))

    def _statx(self, number: int, _body: bytes, _unique: int) -> bytes:
        return StatxOut(FOREVER, 0, 0, (0, 0), self._files.statx(number)).pack()

    def _access(self, number: int, body: bytes, _unique: int) -> bytes:
        """Say yes, for it is the user's own mount, but not to execute what nobody can.

        Asked where the kernel does not look at permissions; it asks for directories that are entered, too.
        """
        mode = self._files.attributes(number)[_MODE] if AccessIn.unpack(body).mask & os.X_OK else 0
        if stat.S_ISREG(mode) and not mode & 0o111:
            raise RefusedRequest(errno.EACCES)
        return b""

    def _readlink(self, number: int, _body: bytes, _unique: int) -> bytes:
        return self._files.target(number)

    def _read(self, number: int, body: bytes, unique: int) -> bytes | memoryview:
        asked = ReadIn.unpack(body)
        with self._channel.lengthy(unique) as check:
            return self._sharing.read(number, asked.fh, asked.offset, asked.size, check)

    def _readdir(self, number: int, body: bytes, _unique: int) -> bytes:
        asked = ReadIn.unpack(body)
        listing, stop = self._fitting(number, asked.offset, asked.size, 0)
        return b"".join(listing.dirents[asked.offset : stop])

    def _fitting(self, number: int, offset: int, room: int, more: int) -> tuple[Listing, int]:
        """Return the listing of a directory, and up to where its entries from *offset* on fit, each with *more* bytes.

        After the last one of a directory that could not be read whole comes an error, so that nobody takes the
        listing for complete.
        """
        listing = self._files.listing(number)
        if offset >= len(listing) and not listing.complete:
            raise RefusedRequest(errno.EIO)
        at = offset
        for dirent in listing.dirents[offset : offset + room // (Dirent.SIZE + more)]:
            room -= len(dirent) + more
            if room < 0:
                break
            at += 1
        return listing, at

    def _readdirplus(self, number: int, body: bytes, _unique: int) -> bytes:
        asked = ReadIn.unpack(body)
        first = asked.offset
        listing, stop = self._fitting(number, first, asked.size, EntryOut.SIZE)
        dirents = listing.dirents[first:stop]
        if self._looks_up(number, first):
            looked_up: Sequence[int] = range(stop - first)
        else:
            looked_up = [place for place, dirent in enumerate(dirents) if dirent[_KIND] == DIRECTORY]
        parts = [_NOT_LOOKED_UP] * (2 * (stop - first))
        parts[1::2] = dirents
        numbers = [listing.numbers[first + place] for place in looked_up]
        pack = EntryOut.STRUCT.pack
        for place, node, attr in zip(looked_up, numbers, self._files.several(numbers), strict=True):
            if attr:
                parts[2 * place] = pack(node, 0, FOREVER, FOREVER, 0, 0, *attr)
        return b"".join(parts)

    def _looks_up(self, number: int, offset: int) -> bool:
        """Return whether a listing is to have the attributes of all, not of directories only.

        The kernel asks for them in the first part of every listing. They cost more than the names. Those of directories
        are given to all, for who goes on into them. Those of other files are given while somebody lists directories and
        then looks at the files, and not to who only looks for names: at first in few listings, and in twice as many
        each time when files of one without are looked at.
        """
        if self._eager:
            self._eager -= offset == 0
            return True
        if self._listed:  # and nobody has looked
            self._streak = _FEW
        self._listed[number] = time.monotonic()
        if len(self._listed) > _LISTED:
            self._listed.popitem(last=False)
        return False

    def _looked_up(self, parent: int) -> None:
        """Hear that somebody looks at a file in a directory that was listed without attributes."""
        if time.monotonic() - self._listed[parent] < _SOON:
            self._eager = self._streak = min(2 * self._streak, _MANY)
        self._listed.clear()

    def _getxattr(self, number: int, body: bytes, _unique: int) -> bytes:
        name = body[GetxattrIn.SIZE : -1]
        if name in self._virtual and number == ROOT:
            if self._channel.uid() not in (0, self._owner):  # they tell of files that not everybody may see
                raise RefusedRequest(errno.EACCES)
            self._channel.step_back()
            value = self._virtual[name]()
        else:
            found = None if name in self._absent else self._files.xattrs(number).get(name)
            if found is None:
                raise RefusedRequest(self._absent.errno(name))
            value = found
        return as_much(value, GetxattrIn.unpack(body).size)

    def _listxattr(self, number: int, body: bytes, _unique: int) -> bytes:
        names = b"".join(name + b"\0" for name in self._files.xattrs(number))
        return as_much(names, GetxattrIn.unpack(body).size)

    def _lseek(self, number: int, body: bytes, _unique: int) -> bytes:
        asked = LseekIn.unpack(body)
        return LseekOut(self._files.seek(number, asked.offset, asked.whence)).pack()

    def _statfs(self, _number: int, _body: bytes, _unique: int) -> bytes:
        superblock = self._files.image.superblock
        size = superblock.sectorsize
        blocks, free = superblock.total_bytes // size, max(superblock.total_bytes - superblock.bytes_used, 0) // size
        return StatfsOut(blocks, free, 0, 0, 0, size, NAME_MAX, size, 0, (0,) * 6).pack()
