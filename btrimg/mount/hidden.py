"""The hidden mount, whose files are contents: it answers the kernel's requests for data.

It hangs nowhere, so nobody else can open its files, and it remembers nothing: the name of a file is the number of a
visible one. So it is served by several processes, each with an interpreter and caches of its own, and one thread.
"""

from __future__ import annotations

import errno
import os
import stat
import struct
from typing import TYPE_CHECKING

from btrimg.mount.channel import RefusedRequest
from btrimg.mount.wire import FOREVER, ROOT, AttrOut, EntryOut, GetxattrIn, Opcode
from btrimg.mount.xattrs import NAMES_XATTR, all_names, as_much

if TYPE_CHECKING:
    from btrimg.mount.channel import Channel, Handler
    from btrimg.mount.reading import Reader
    from btrimg.mount.tree import Files

_BLOCK = 4096  #: st_blksize
_ASKED = struct.Struct("<8xQI").unpack_from  #: offset and size of a ReadIn: all that counts


class HiddenFiles:
    """The hidden mount: answers for its channel.

    Who gives out one large file, piece by piece, goes on doing so alone, for what the next piece takes is at hand; for
    all else others may take the next requests meanwhile.
    """

    def __init__(self, files: Files, reader: Reader, channel: Channel) -> None:
        self._files, self._reader, self._step_back = files, reader, channel.step_back
        self._last = 0
        self._owner = os.getuid(), os.getgid()
        self.handlers: dict[int, Handler] = {
            Opcode.LOOKUP: self._lookup,
            Opcode.GETATTR: self._getattr,
            Opcode.READ: self._read,
            Opcode.GETXATTR: self._getxattr,
            Opcode.FORGET: _forget,
            Opcode.BATCH_FORGET: _forget,
        }

    def _lookup(self, _parent: int, body: bytes, _unique: int) -> bytes:
        number, size = _number_and_size_of(body[:-1])
        return EntryOut.STRUCT.pack(number, 0, FOREVER, FOREVER, 0, 0, *self._attributes(number, size))

    def _getattr(self, number: int, _body: bytes, _unique: int) -> bytes:
        size = 0 if number == ROOT else self._files.data(number).size
        return AttrOut.STRUCT.pack(FOREVER, 0, 0, *self._attributes(number, size))

    def _attributes(self, number: int, size: int) -> tuple[int, ...]:
        """Return the fields of an Attr."""
        mode = stat.S_IFDIR | 0o500 if number == ROOT else stat.S_IFREG | 0o400
        return (number, size, (size + 511) >> 9, *(0,) * 6, mode, 1, *self._owner, 0, _BLOCK, 0)

    def _read(self, number: int, body: bytes, _unique: int) -> memoryview:
        offset, size = _ASKED(body)
        if number != self._last:
            self._last = number
            self._step_back()
        return self._reader.read(self._files.data(number), offset, size, self._step_back)

    def _getxattr(self, number: int, body: bytes, _unique: int) -> bytes:
        if number != ROOT or body[GetxattrIn.SIZE : -1] != NAMES_XATTR:
            raise RefusedRequest(errno.ENODATA)
        return as_much(all_names(self._files.image), GetxattrIn.unpack(body).size)


def name_of(number: int, size: int) -> bytes:
    """Return the name that the content of the visible file *number*, of *size* bytes, has in the hidden mount.

    The size is there so that whoever is asked for the name need not look for the inode: another may have to read it.
    """
    return b"%x-%x" % (number, size)


def _number_and_size_of(name: bytes) -> tuple[int, int]:
    number, _, size = name.partition(b"-")
    try:
        return int(number, 16), int(size, 16)
    except ValueError:
        raise RefusedRequest(errno.ENOENT) from None


def _forget(_number: int, _body: bytes, _unique: int) -> None:
    """Do nothing: there is nothing to forget."""
