"""Change a mounted filesystem at random, with many an fsync(), from a seed."""

from __future__ import annotations

import ctypes
import os
import random
import stat
from contextlib import suppress
from typing import TYPE_CHECKING

from . import kernel
from .populate import ALGORITHMS, BLOCK, COLLIDING, Filler

if TYPE_CHECKING:
    from collections.abc import Callable

SUBVOLUMES = (b"", b"sub/", b"sub/inner/")  # below the top, with a trailing slash; each has a log of its own
_NAMES = (*COLLIDING, *(b"name-%d" % number for number in range(6)), b"l" * 240, b"m" * 250)
_RENAME_EXCHANGE = 2  # include/uapi/linux/fs.h

_libc = ctypes.CDLL(None, use_errno=True)
_libc.renameat2.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint]


def exchange(one: bytes, other: bytes) -> None:
    """Swap two names."""
    if _libc.renameat2(-100, one, -100, other, _RENAME_EXCHANGE):
        raise OSError(ctypes.get_errno(), "renameat2", one)


class Churn:
    """Random operations below one mounted filesystem; those that make no sense where they hit do nothing."""

    def __init__(self, top: str, seed: int) -> None:
        self._rng = random.Random(seed)
        self._fill = Filler(top)
        self._round = 0
        self._few_links = kernel.node_size(top) // 700  # fill less than half a leaf
        self._crashing = False
        for subvolume in SUBVOLUMES[1:]:
            kernel.create_subvolume(self._fill.path(subvolume.rstrip(b"/")))

    def grow(self, operations: int) -> None:
        """Change things and commit; at first, make directories and files to change."""
        for subvolume in SUBVOLUMES:
            for name in (b"a", b"a/b", b"c"):
                with suppress(OSError):
                    os.mkdir(self._fill.path(subvolume + name))
        for _ in range(operations):
            self._change()
        self._fill.sync()

    def crash(self, operations: int) -> None:
        """Change things and fsync some of them; the last of all is an fsync()."""
        self._crashing = True
        for _ in range(operations):
            self._change()
            if self._rng.random() < 0.3:
                self._fsync(self._any())
        self._crashing = False
        self._round += 1
        last = self._rng.choice(SUBVOLUMES) + b"last-%d" % self._round
        self._fill.write(last, self._content(self._rng.choice((7, 70_000))))
        self._fsync(self._fill.path(last))

    def _change(self) -> None:
        pick: Callable[[], None] = self._rng.choice(self._operations())
        with suppress(OSError):
            pick()

    def _operations(self) -> list[Callable[[], None]]:
        contents = [self._write, self._write, self._append, self._truncate, self._punch, self._allocate, self._clone]
        contents += [self._write_again, self._clone_range]
        names = [self._create, self._create, self._mkdir, self._rename, self._rename, self._link, self._link]
        names += [self._unlink, self._unlink, self._rmdir, self._exchange, self._special, self._replace]
        others = [self._set_xattr, self._remove_xattr, self._chmod, self._many_links, self._many_links]
        return contents + names + others

    # Where: any path that is there, or a new name in a directory that is there

    def _paths(self, kind: Callable[[int], bool]) -> list[bytes]:
        subvolume = self._fill.path(self._rng.choice(SUBVOLUMES))
        found = []
        for folder, folders, files in os.walk(subvolume):
            # Another subvolume is another log tree; names are not moved between them.
            folders[:] = [each for each in folders if os.lstat(folder + b"/" + each).st_ino != kernel.SUBVOLUME_INO]
            found += [os.path.join(folder, each) for each in sorted(folders + files)]
        return [path for path in sorted(found) if kind(os.lstat(path).st_mode)]

    def _file(self) -> bytes:
        return self._rng.choice(self._paths(stat.S_ISREG) or [self._fill.path(b"a/first")])

    def _directory(self) -> bytes:
        return self._rng.choice(self._paths(stat.S_ISDIR) or [self._fill.path(b"a")])

    def _any(self) -> bytes:
        return self._rng.choice(self._paths(lambda mode: not stat.S_ISLNK(mode)) or [self._fill.path(b"a")])

    def _new(self) -> bytes:
        return self._directory() + b"/" + self._rng.choice(_NAMES)

    def _named(self) -> bytes:
        """Return a path that may be given another name."""
        path = self._any()
        return path if self._may_link(path) else self._directory()

    def _may_link(self, path: bytes) -> bool:
        """Return whether a path may get another name without waking one of two bugs of Linux 6.18.

        Replay of an inode reference item that grew beyond half a leaf stops at a BUG (fs/btrfs/ctree.c
        ``btrfs_extend_item``, from ``overwrite_item``). Unlinking a name whose extended reference is not in the log
        while another of the same hash is aborts the transaction (fs/btrfs/inode-item.c ``btrfs_del_inode_extref``).
        """
        return os.lstat(path).st_nlink <= self._few_links

    def _beside(self, path: bytes) -> bytes:
        """Return a new path in the same subvolume as *path*."""
        for _ in range(20):
            new = self._new()
            if kernel.subvolume_id(os.path.dirname(new)) == kernel.subvolume_id(os.path.dirname(path)):
                return new
        return path + b"+"

    def _range(self, path: bytes) -> tuple[int, int]:
        """Return an offset and a length in and a little beyond a file, often in whole sectors."""
        size = os.lstat(path).st_size + 2 * BLOCK
        offset, length = self._rng.randrange(size), self._rng.randrange(1, 10 * BLOCK)
        if self._rng.random() < 0.6:
            offset, length = offset - offset % BLOCK, length - length % BLOCK + BLOCK
        return offset, length

    # What

    def _fsync(self, path: bytes) -> None:
        with suppress(OSError), kernel.opened(path, os.O_RDONLY | os.O_NONBLOCK) as fd:
            (os.fdatasync if self._rng.random() < 0.2 else os.fsync)(fd)

    def _content(self, size: int) -> bytes:
        return (self._fill.text if self._rng.random() < 0.5 else self._fill.noise)(size)

    def _create(self) -> None:
        path = self._new()
        with kernel.opened(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL):
            pass
        kind = self._rng.random()
        if kind < 0.15:
            kernel.set_nocow(path)
        elif kind < 0.5:
            kernel.set_compression(path, self._rng.choice(ALGORITHMS))
        self._put(path, self._content(self._rng.choice((0, 1, 100, 2000, 5000, 50_001, 300_000))), 0)

    def _put(self, path: bytes, content: bytes, at: int) -> None:
        with kernel.opened(path, os.O_WRONLY) as fd:
            os.pwrite(fd, content, at)

    def _write(self) -> None:
        path = self._file()
        offset, length = self._range(path)
        self._put(path, self._content(length), offset)

    def _write_again(self) -> None:
        """Write what shall not stay in the log."""
        path = self._file()
        offset, length = self._range(path)
        self._put(path, self._content(length), offset)
        self._fsync(path)
        self._put(path, self._content(length), offset + length // 3)
        self._fsync(path)

    def _append(self) -> None:
        path = self._file()
        self._put(path, self._content(self._rng.randrange(1, 40_000)), os.lstat(path).st_size)

    def _truncate(self) -> None:
        path = self._file()
        os.truncate(path, self._rng.choice((0, 1, os.lstat(path).st_size // 2, self._range(path)[0])))

    def _punch(self) -> None:
        path = self._file()
        mode = self._rng.choice((kernel.PUNCH_HOLE | kernel.KEEP_SIZE, kernel.ZERO_RANGE))
        kernel.fallocate(path, mode, *self._range(path))

    def _allocate(self) -> None:
        path = self._file()
        kernel.fallocate(path, self._rng.choice((0, kernel.KEEP_SIZE)), *self._range(path))

    def _clone(self) -> None:
        source, target = self._file(), self._rng.choice((self._new(), self._file()))
        if not os.path.lexists(target) or stat.S_ISREG(os.lstat(target).st_mode):  # to open a FIFO would wait
            kernel.clone(source, target)

    def _clone_range(self) -> None:
        source, target = self._file(), self._file()
        offset, length = self._range(source)
        kernel.clone_range(
            source, offset - offset % BLOCK, length - length % BLOCK, target, BLOCK * self._rng.randrange(9)
        )

    def _mkdir(self) -> None:
        os.mkdir(self._new())

    def _rename(self) -> None:
        path = self._named()
        os.rename(path, self._beside(path))

    def _replace(self) -> None:
        """Rename a new file over an old one, as careful programs do."""
        path = self._file()
        new = self._beside(path)
        with kernel.opened(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL) as fd:
            os.write(fd, self._content(self._rng.choice((10, 30_000))))
            os.fsync(fd)
        os.rename(new, path)

    def _exchange(self) -> None:
        exchange(self._named(), self._named())

    def _link(self) -> None:
        path = self._file()
        if self._may_link(path):
            os.link(path, self._beside(path))

    def _many_links(self) -> None:
        """Link a file more often than an inode reference item of a small node can hold."""
        path = self._file()
        folder = os.path.dirname(path)
        # The number at the end: a hash of an extended reference mixes the first four bytes with the directory's number.
        for number in range(self._rng.randrange(self._few_links if self._crashing else 40)):
            if self._may_link(path) or not self._crashing:
                with suppress(FileExistsError):
                    os.link(path, folder + b"/" + b"x" * 200 + b"%02d" % number)

    def _unlink(self) -> None:
        os.unlink(self._file())

    def _rmdir(self) -> None:
        folder = self._directory()
        for name in os.listdir(folder):
            with suppress(OSError):
                os.unlink(folder + b"/" + name)
        os.rmdir(folder)

    def _special(self) -> None:
        path = self._new()
        self._rng.choice(
            (
                lambda: os.symlink(b"to/" + self._rng.choice(_NAMES), path),
                lambda: os.mkfifo(path),
                lambda: os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(259, 70_000)),
            )
        )()

    def _set_xattr(self) -> None:
        name, size = self._rng.choice(_NAMES[:8]), self._rng.choice((0, 5, 300))
        os.setxattr(self._any(), b"user." + name, self._fill.noise(size))

    def _remove_xattr(self) -> None:
        path = self._any()
        name = self._rng.choice(os.listxattr(path) or ["user.none"])
        os.removexattr(path, name)

    def _chmod(self) -> None:
        path = self._any()
        os.chmod(path, self._rng.randrange(0o1000))
        os.utime(path, ns=(self._rng.randrange(1 << 60), self._rng.randrange(1 << 60)))
