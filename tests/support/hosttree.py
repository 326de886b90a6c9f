"""Directories of the host made with one of everything, and told apart: what two trees differ in."""

from __future__ import annotations

import hashlib
import os
import random
import stat
import struct
import time
from typing import NamedTuple

from . import kernel

SECTOR = 4096
SECOND = 10**9


class Thing(NamedTuple):
    """Everything that is said of a name in a tree; times in ns since 1970."""

    mode: int
    owner: tuple[int, int]
    size: int
    rdev: int
    atime: int
    ctime: int
    mtime: int
    btime: int
    xattrs: dict[bytes, bytes]
    names: tuple[bytes, ...]  # of the same inode
    target: bytes
    digest: str
    data: list[tuple[int, int]]  # (start, end) of what is no hole, in sectors but for the end


def describe(top: str | bytes) -> dict[bytes, Thing]:
    """Return all that is in a directory, and itself, by path."""
    root = os.fsencode(top)
    paths = [b""]
    names: dict[int, list[bytes]] = {}
    for path in paths:
        host = os.path.join(root, path)
        found = os.lstat(host)
        names.setdefault(found.st_ino, []).append(path)
        if stat.S_ISDIR(found.st_mode):
            paths += [os.path.join(path, name) for name in _listed(host)]
    return {path: _thing(os.path.join(root, path), names) for path in paths}


def opened(host: str | bytes, _flags: int = 0) -> int:
    """Open a file or directory to read it without a trace; also an opener for ``open``."""
    return os.open(host, os.O_RDONLY | os.O_NOATIME)


def _listed(host: bytes) -> list[bytes]:
    fd = opened(host)
    try:
        return sorted(map(os.fsencode, os.listdir(fd)))
    finally:
        os.close(fd)


def _thing(host: bytes, names: dict[int, list[bytes]]) -> Thing:
    found = kernel.stat(host)
    listed = os.listxattr(host, follow_symlinks=False)
    xattrs = {os.fsencode(name): os.getxattr(host, name, follow_symlinks=False) for name in listed}
    is_file = stat.S_ISREG(found.mode)
    return Thing(
        found.mode,
        (found.uid, found.gid),
        found.size if is_file else 0,
        found.rdev,
        *(found.atime, found.ctime, found.mtime, found.btime or found.mtime),
        xattrs,
        tuple(sorted(names[found.ino])),
        os.readlink(host) if stat.S_ISLNK(found.mode) else b"",
        _digest(host, found.size) if is_file else "",
        data_ranges(host, found.size) if is_file else [],
    )


def _digest(host: bytes, size: int) -> str:
    sha = hashlib.sha256()
    with open(opened(host), "rb") as file:
        for start, end in data_ranges(host, size):
            sha.update(b"%d %d\n" % (start, end))
            sha.update(os.pread(file.fileno(), end - start, start))
    return sha.hexdigest()


def data_ranges(host: str | bytes, size: int) -> list[tuple[int, int]]:
    """Return (start, end) of what is no hole of a file."""
    ranges: list[tuple[int, int]] = []
    with open(opened(host), "rb") as file:
        at = 0
        while at < size:
            try:
                start = os.lseek(file.fileno(), at, os.SEEK_DATA)
            except OSError:
                break
            at = os.lseek(file.fileno(), start, os.SEEK_HOLE)
            ranges.append((start, min(-(-at // SECTOR) * SECTOR, size)))
    return ranges


def make(top: str, *, as_root: bool) -> None:
    """Fill a directory with one of everything; only root can make devices, other owners, and most attributes."""
    rng = random.Random("host tree")
    root = os.fsencode(top)

    def path(name: bytes) -> bytes:
        return os.path.join(root, name)

    def write(name: bytes, content: bytes) -> None:
        with open(path(name), "wb") as file:
            file.write(content)

    for name in (b"a", b"a/b", b"a/b/c", b"empty", b"names", b"z"):
        os.mkdir(path(name))
    for size in (0, 1, 2048, 2049, 4095, 4096, 4097, 100_000, (1 << 20) + 1, (5 << 20) + 17):
        write(b"a/size-%d" % size, rng.randbytes(size))
    write(b"a/text", b"the same again and again " * 40_000)
    for name in (b"n" * 255, b"latin1-\xe9\xff", b"new\nline", "naïve – 文件".encode(), b".wh", b" "):
        write(b"names/" + name, name)
    for number in range(150):
        write(b"z/%d" % number, b"%d" % number * number)
    _make_sparse(path(b"a/b/sparse"))
    os.symlink(b"../a\xff", path(b"a/link"))
    os.symlink(b"x" * 3900, path(b"a/b/long-link"))
    os.mkfifo(path(b"fifo"))
    for name in (b"first", b"a/second", b"z/third"):
        os.link(path(b"a/size-4097"), path(name))
    os.setxattr(path(b"a/text"), b"user.one", b"1")
    os.setxattr(path(b"a/text"), b"user.large", rng.randbytes(2000))
    os.setxattr(path(b"a"), b"user.directory", b"")
    if as_root:
        _make_as_root(path(b""))
    os.chmod(path(b"a/size-1"), 0o4711)
    os.chmod(path(b"empty"), 0o1777)
    os.utime(path(b"a/size-1"), ns=(-5 * SECOND + 1, 2**32 * SECOND + 999_999_999))
    os.utime(path(b"a/link"), ns=(1, 123_456_789), follow_symlinks=False)
    for name in (b"a/link", b"a/b/long-link"):
        _access(path(name))
    for number, name in enumerate((b"a/b", b"a", b"z", b"")):
        os.utime(path(name), ns=(10**18 + number, 10**18 + 7 * number))


def _access(link: bytes) -> None:
    """Read a link until its time of access is after that of its last change: it does not change again for a day."""
    for _ in range(0 if os.statvfs(os.path.dirname(link)).f_flag & os.ST_NOATIME else 1000):
        os.readlink(link)
        found = os.lstat(link)
        if found.st_atime_ns > found.st_ctime_ns:
            break
        time.sleep(0.001)


def _make_sparse(path: bytes) -> None:
    with open(path, "wb") as file:
        for at, length in ((0, 10), (1 << 20, 4096), ((1 << 20) + 8192, 5000), (5 << 20, 3 << 20)):
            os.pwrite(file.fileno(), b"d" * length, at)
        os.ftruncate(file.fileno(), 20 << 20)


def _make_as_root(top: bytes) -> None:
    os.mknod(top + b"disk", stat.S_IFBLK | 0o660, os.makedev(259, 70_000))
    os.mknod(top + b"a/null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    os.chown(top + b"a/text", 70_001, 70_002)
    os.chown(top + b"a/link", 5, 6, follow_symlinks=False)
    os.setxattr(top + b"a/text", b"trusted.t", b"\0\1")
    os.setxattr(top + b"a/link", b"trusted.l", b"link", follow_symlinks=False)
    # CAP_NET_RAW, as setcap writes it (include/uapi/linux/capability.h vfs_cap_data)
    os.setxattr(top + b"first", b"security.capability", struct.pack("<5I", 0x0200_0001, 1 << 13, 0, 0, 0))
    # user::rw- user:70001:r-- group::r-- mask::r-- other::--- (include/uapi/linux/posix_acl_xattr.h)
    entries = ((1, 6, -1), (2, 4, 70_001), (4, 4, -1), (16, 4, -1), (32, 0, -1))
    acl = struct.pack("<I", 2) + b"".join(struct.pack("<HHi", *entry) for entry in entries)
    os.setxattr(top + b"a/size-2048", b"system.posix_acl_access", acl)
    os.setxattr(top + b"a/b", b"system.posix_acl_default", acl)
