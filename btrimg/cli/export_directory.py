"""Write inodes of an image into a directory of the host, and nowhere else."""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING, Self

from btrimg.errors import BtrimgError, CorruptError
from btrimg.filesystem.data import segments
from btrimg.render.listing import device_number
from btrimg.render.text import printable

if TYPE_CHECKING:
    from btrimg.filesystem.inode import Inode
    from btrimg.ondisk.inodes import Timespec

BILLION = 1_000_000_000

#: What os raises where the host cannot hold something: a NUL is a ValueError, a large number an OverflowError.
HOST_REFUSES = (OSError, ValueError, OverflowError)


class DirectoryWriter:
    """Creates files below a directory that was empty (context manager).

    Every object is made by name in an open directory that this class made itself, never following a link and never
    replacing anything: a name in the image cannot lead out.
    """

    def __init__(self, path: str, top: Inode, *, verify: bool) -> None:
        self._root = os.fsencode(path)
        self._top, self._verify = top, verify
        self._open: list[tuple[bytes, int, Inode]] = [(b"", os.open(path, os.O_RDONLY | os.O_DIRECTORY), top)]
        self._first_names: dict[tuple[int, int], bytes] = {}
        self._is_root = os.geteuid() == 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        while self._open:
            self._finish_directory()

    def _finish_directory(self) -> None:
        """Close the innermost open directory, with the times that its children changed set again."""
        path, fd, inode = self._open.pop()
        try:
            if path or inode.is_directory:
                self._attributes(fd, inode)
        except (BtrimgError, *HOST_REFUSES) as error:
            inode.image.report(CorruptError(f"{inode.quoted} is written without its attributes: {error}"))
        finally:
            os.close(fd)

    def add(self, path: bytes, inode: Inode) -> None:
        """Write *inode* at *path* (from the top of the export); its directory must have come before, and last.

        Raises one of HOST_REFUSES, or BtrimgError when the data cannot be read; nothing is then left of it.
        """
        parent, _, name = path.rpartition(b"/")
        if all(parent != opened for opened, *_ in self._open):
            raise OSError(errno.ENOENT, "so is its directory")
        while self._open[-1][0] != parent:
            self._finish_directory()
        at = self._open[-1][1]
        if inode.is_directory:
            os.mkdir(name, 0o700, dir_fd=at)
            fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=at)
            self._open.append((path, fd, inode))
        elif not self._linked(path, name, at, inode):
            self._create(name, at, inode)
            if inode.item.nlink > 1:
                self._first_names[inode.subvolume.id, inode.ino] = path

    def _linked(self, path: bytes, name: bytes, at: int, inode: Inode) -> bool:
        """Make *name* a further hard link if the inode was written before; return whether it was."""
        first = self._first_names.get((inode.subvolume.id, inode.ino))
        if first is None:
            return False
        try:
            os.link(self._root + b"/" + first, name, dst_dir_fd=at, follow_symlinks=False)
        except OSError as error:
            if error.errno not in (errno.EMLINK, errno.ENAMETOOLONG):
                raise
            return False
        return True

    def _create(self, name: bytes, at: int, inode: Inode) -> None:
        mode = inode.item.mode
        if stat.S_ISREG(mode):
            self._file(name, at, inode)
        elif stat.S_ISLNK(mode):
            os.symlink(inode.target(), name, dir_fd=at)
            self._owner_and_times(name, at, inode)
        else:
            device = os.makedev(*device_number(inode.item.rdev))
            os.mknod(name, stat.S_IFMT(mode) | 0o600, device, dir_fd=at)
            self._owner_and_times(name, at, inode)
            os.chmod(name, stat.S_IMODE(mode), dir_fd=at)

    def _file(self, name: bytes, at: int, inode: Inode) -> None:
        fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600, dir_fd=at)
        try:
            os.ftruncate(fd, inode.item.size)
            for offset, piece in segments(inode, 0, inode.item.size, verify=self._verify):
                view = memoryview(piece)
                while view:
                    written = os.pwrite(fd, view, offset)
                    view, offset = view[written:], offset + written
            self._attributes(fd, inode)
        except BaseException:
            os.unlink(name, dir_fd=at)
            raise
        finally:
            os.close(fd)

    def _attributes(self, fd: int, inode: Inode) -> None:
        if self._is_root:
            os.fchown(fd, inode.item.uid, inode.item.gid)
        for key, value in inode.xattrs().items():
            try:
                os.setxattr(fd, key, value)
            except HOST_REFUSES:
                kind = printable(key.partition(b".")[0])
                inode.image.volume.warn(f"extended attributes like {kind}.* cannot be kept here")
        os.fchmod(fd, stat.S_IMODE(inode.item.mode))
        os.utime(fd, ns=_times(inode))

    def _owner_and_times(self, name: bytes, at: int, inode: Inode) -> None:
        if self._is_root:
            os.chown(name, inode.item.uid, inode.item.gid, dir_fd=at, follow_symlinks=False)
        os.utime(name, ns=_times(inode), dir_fd=at, follow_symlinks=False)


def _times(inode: Inode) -> tuple[int, int]:
    return _nanoseconds(inode.item.atime), _nanoseconds(inode.item.mtime)


def _nanoseconds(time: Timespec) -> int:
    """Return *time* for os.utime, which takes seconds in 63 bits and refuses nanoseconds beyond a second."""
    return time.sec * BILLION + min(time.nsec, BILLION - 1)
