"""Operations of programs that only read, at random, on two mounts of one image: both must give the same.

As ``fsx`` does with one file that is written, many processes do it with all files. ``python -m support.workload OURS
THEIRS SECONDS SEED`` is one of them; it prints how many operations it did, and fails at the first difference.
"""

from __future__ import annotations

import ctypes
import errno
import hashlib
import mmap
import os
import random
import stat
import sys
import tempfile
import time
from typing import TYPE_CHECKING

from .kernel import opened
from .kernel import stat as statx

if TYPE_CHECKING:
    from collections.abc import Callable

    Operation = Callable[[bytes, random.Random], object]  # what it does to a path, and what that came to

_ADVICE = (mmap.MADV_NORMAL, mmap.MADV_RANDOM, mmap.MADV_SEQUENTIAL, mmap.MADV_WILLNEED, mmap.MADV_DONTNEED)
_LENGTHS = (1, 100, 4096, 65536, 1 << 20)


def _digest(*parts: bytes | mmap.mmap) -> bytes:
    digest = hashlib.blake2b()
    for part in parts:
        digest.update(part)
    return digest.digest()


def pread(path: bytes, chance: random.Random) -> object:
    with opened(path) as fd:
        size = os.fstat(fd).st_size
        if chance.random() < 0.3:
            os.posix_fadvise(fd, 0, 0, chance.choice((os.POSIX_FADV_WILLNEED, os.POSIX_FADV_DONTNEED)))
        return [
            _digest(os.pread(fd, chance.choice(_LENGTHS), chance.randrange(size + 4096)))
            for _ in range(chance.randrange(1, 10))
        ]


def read_through(path: bytes, chance: random.Random) -> object:
    digest, step = hashlib.blake2b(), chance.choice((512, 4096, 131072))
    with opened(path) as fd:
        for _ in range(200):
            digest.update(os.read(fd, step))
    return digest.digest()


def mapped(path: bytes, chance: random.Random) -> object:
    flags = chance.choice((mmap.MAP_SHARED, mmap.MAP_PRIVATE))
    with opened(path) as fd:
        size = os.fstat(fd).st_size
        if not size:
            return None
        with mmap.mmap(fd, 0, prot=mmap.PROT_READ, flags=flags) as view:
            view.madvise(chance.choice(_ADVICE))
            starts = [chance.randrange(size) for _ in range(20)]
            return [_digest(view[start : start + chance.randrange(9000)]) for start in starts]


def sent(path: bytes, chance: random.Random) -> object:
    with opened(path) as fd, tempfile.TemporaryFile() as file:
        size = os.fstat(fd).st_size
        os.sendfile(file.fileno(), fd, chance.randrange(size + 1), chance.choice(_LENGTHS))
        file.seek(0)
        return _digest(file.read())


def spliced(path: bytes, chance: random.Random) -> object:
    out, into = os.pipe()
    try:
        with opened(path) as fd:
            size = os.fstat(fd).st_size
            count = os.splice(fd, into, 30000, offset_src=chance.randrange(size + 1))
            return os.read(out, count) if count else b""
    finally:
        os.close(out)
        os.close(into)


def read_directly(path: bytes, chance: random.Random) -> object:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECT)
    try:
        with mmap.mmap(-1, 1 << 20) as memory:
            room = memoryview(memory)[: chance.choice((4096, 65536, 1 << 20))]
            count = os.preadv(fd, [room], chance.randrange(os.fstat(fd).st_size // 4096 + 1) * 4096)
            found = _digest(bytes(room[:count]))
            room.release()
            return found
    finally:
        os.close(fd)


def holes(path: bytes, chance: random.Random) -> object:
    found: list[int] = []
    with opened(path) as fd:
        size = os.fstat(fd).st_size
        for whence in (os.SEEK_DATA, os.SEEK_HOLE):
            for offset in (0, chance.randrange(size + 10), size):
                try:
                    found.append(os.lseek(fd, offset, whence))
                except OSError as error:
                    found.append(-error.errno if error.errno else 0)
    return found


def vectored(path: bytes, chance: random.Random) -> object:
    with opened(path) as fd:
        rooms = [bytearray(chance.randrange(1, 20000)) for _ in range(chance.randrange(1, 8))]
        count = os.preadv(fd, rooms, chance.randrange(os.fstat(fd).st_size + 4096))
        return count, _digest(b"".join(rooms))


def copied(path: bytes, chance: random.Random) -> object:
    with opened(path) as fd, tempfile.TemporaryFile() as file:
        start = chance.randrange(os.fstat(fd).st_size + 1)
        try:
            os.copy_file_range(fd, file.fileno(), chance.choice(_LENGTHS), start)
        except OSError as error:  # between filesystems of two kinds
            if error.errno != errno.EXDEV:
                raise
            file.write(os.pread(fd, 4096, start))
        file.seek(0)
        return _digest(file.read(4096))


def described(path: bytes, _chance: random.Random) -> object:
    found = os.lstat(path)
    names = os.listxattr(path, follow_symlinks=False)
    xattrs = {name: os.getxattr(path, name, follow_symlinks=False) for name in names}
    target = os.readlink(path) if stat.S_ISLNK(found.st_mode) else None
    fields = ("mode", "nlink", "uid", "gid", "size", "blocks", "mtime_ns", "ctime_ns", "atime_ns", "rdev")
    return [getattr(found, f"st_{field}") for field in fields], statx(path).btime, xattrs, target


def listed(path: bytes, _chance: random.Random) -> object:
    return os.listdir(path)


def sought(path: bytes, chance: random.Random) -> object:
    """Read a directory, and again from places in it that were told before."""
    stream = _libc.opendir(path)
    try:
        places: list[int] = []
        names: list[bytes] = []
        while True:
            places.append(_libc.telldir(stream))
            name = _next_name(stream)
            if name is None:
                break
            names.append(name)
        for start in (0, *(chance.randrange(len(places)) for _ in range(5))):
            _libc.seekdir(stream, places[start])
            end = start + chance.choice((1, 7, 300))
            again = [_next_name(stream) for _ in names[start:end]]
            assert again == names[start:end], (path, start, end)
        return names
    finally:
        _libc.closedir(stream)


def _next_name(stream: int) -> bytes | None:
    entry = _libc.readdir(stream)
    return ctypes.string_at(entry + _NAME_AT) if entry else None


_NAME_AT = 19  # of d_name in a struct dirent
_libc = ctypes.CDLL(None, use_errno=True)
_libc.opendir.restype = _libc.readdir.restype = ctypes.c_void_p
_libc.telldir.restype = ctypes.c_long
_libc.readdir.argtypes = _libc.telldir.argtypes = _libc.closedir.argtypes = [ctypes.c_void_p]
_libc.seekdir.argtypes = [ctypes.c_void_p, ctypes.c_long]

_ON_FILES: tuple[Operation, ...] = (
    pread,
    pread,
    mapped,
    mapped,
    read_through,
    sent,
    spliced,
    copied,
    vectored,
    read_directly,
    holes,
)


def compare(ours: bytes, theirs: bytes, seconds: float, seed: int) -> int:
    """Do operations for so many seconds, some at least; return how many. Exits at a difference."""
    chance, done = random.Random(seed), 0
    files: list[bytes] = []
    directories: list[bytes] = []
    others: list[bytes] = []
    for top, _, names in os.walk(theirs):
        if os.lstat(top).st_ino != _PLACEHOLDER:
            directories.append(top.removeprefix(theirs))
        for path in (os.path.join(top, name) for name in names):
            kind = files if stat.S_ISREG(os.lstat(path).st_mode) else others
            kind.append(path.removeprefix(theirs))
    some = chance.sample(files, min(20, len(files)))  # which several processes read at once
    end = time.monotonic() + seconds
    while done < _LEAST or time.monotonic() < end:
        path = chance.choice(chance.choice((files, some)))
        operation = chance.choice(_ON_FILES)
        if chance.random() < 0.2:
            path, operation = chance.choice(files + directories + others), described
        elif chance.random() < 0.1:
            path, operation = chance.choice(directories), chance.choice((listed, sought))
        state = chance.getstate()
        found = operation(ours + path, chance)
        chance.setstate(state)
        expected = operation(theirs + path, chance)
        if found != expected:
            sys.exit(f"{operation.__name__} of {path!r}: {str(found)[:300]}, and not {str(expected)[:300]}")
        done += 1
    return done


_LEAST = 5
_PLACEHOLDER = 2  # inode number of the directory where a snapshot's origin had a subvolume; its times are made up

if __name__ == "__main__":
    print(compare(os.fsencode(sys.argv[1]), os.fsencode(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4])))
