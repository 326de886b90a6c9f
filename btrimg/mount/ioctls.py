"""The ioctls that any filesystem may have: what ``lsattr`` and ``xfs_io -c lsattr`` show, generations, the label.

Those of btrfs alone do not get through: the kernel hands on only as many bytes as the number of an ioctl says, and most
of them speak of other files, too.
"""

from __future__ import annotations

import errno
import struct
from typing import TYPE_CHECKING

from btrimg.mount.channel import RefusedRequest
from btrimg.mount.wire import IoctlIn, IoctlOut
from btrimg.ondisk.constants import InodeFlag

if TYPE_CHECKING:
    from collections.abc import Callable

    from btrimg.mount.tree import Files

#: FS_IOC_*, of 64-bit hosts and of 32-bit ones where they differ.
GET_FLAGS, GET_FLAGS_32 = 0x80086601, 0x80046601
GET_VERSION, GET_VERSION_32 = 0x80087601, 0x80047601
GET_XFLAGS, GET_LABEL = 0x801C581F, 0x81009431
_FSXATTR = struct.Struct("<5I8x")  #: struct fsxattr: flags, extsize, nextents, projid, cowextsize

#: An inode's flag, FS_*_FL and FS_XFLAG_*, as ``btrfs_inode_flags_to_fsflags`` and ``fileattr_fill_flags`` have them.
_FLAGS = (
    (InodeFlag.SYNC, 0x8, 0x20),
    (InodeFlag.IMMUTABLE, 0x10, 0x8),
    (InodeFlag.APPEND, 0x20, 0x10),
    (InodeFlag.NODUMP, 0x40, 0x80),
    (InodeFlag.NOATIME, 0x80, 0x40),
    (InodeFlag.DIRSYNC, 0x10000, 0),
    (InodeFlag.NODATACOW, 0x800000, 0),
    (InodeFlag.VERITY, 0x100000, 0),
)
_COMPRESS, _NO_COMPRESS = 0x4, 0x400


def shown_flags(flags: int) -> int:
    """Return the FS_*_FL of an inode with those *flags*."""
    shown = sum(generic for flag, generic, _ in _FLAGS if flags & flag.value)
    if flags & InodeFlag.NOCOMPRESS.value:
        return shown | _NO_COMPRESS
    return shown | (_COMPRESS if flags & InodeFlag.COMPRESS.value else 0)


class Ioctls:
    """Answers IOCTL for the visible mount."""

    def __init__(self, files: Files) -> None:
        self._files = files
        self._answers: dict[int, Callable[[int], bytes]] = {
            GET_FLAGS: self._flags,
            GET_FLAGS_32: self._flags,
            GET_XFLAGS: self._xflags,
            GET_VERSION: self._version,
            GET_VERSION_32: self._version,
            GET_LABEL: self._label,
        }

    def __call__(self, number: int, body: bytes, _unique: int) -> bytes:
        """Answer one; raises RefusedRequest for others than those."""
        asked = IoctlIn.unpack(body[: IoctlIn.SIZE])
        answer = self._answers.get(asked.cmd)
        if answer is None:
            raise RefusedRequest(errno.ENOTTY)
        return IoctlOut(0, 0, 0, 0).pack() + answer(number)[: asked.out_size]

    def _flags(self, number: int) -> bytes:
        return shown_flags(self._files.flags(number)).to_bytes(8, "little")

    def _xflags(self, number: int) -> bytes:
        flags = self._files.flags(number)
        return _FSXATTR.pack(sum(extended for flag, _, extended in _FLAGS if flags & flag.value), 0, 0, 0, 0)

    def _version(self, number: int) -> bytes:
        return (self._files.generation(number) & 0xFFFF_FFFF).to_bytes(8, "little")

    def _label(self, _number: int) -> bytes:
        return self._files.image.superblock.label
