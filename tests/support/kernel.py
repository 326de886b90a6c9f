"""Ask the running kernel: loop devices, mounts, and the btrfs and VFS calls that the standard library lacks.

Needs root. The ioctl numbers are those of x86, arm, riscv and s390 (``include/uapi/asm-generic/ioctl.h``).
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import struct
import subprocess
import tempfile
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

TOP_LEVEL = 5  # tree id of the top-level subvolume
SUBVOLUME_INO = 256  # inode number of every subvolume's root directory

# include/uapi/linux/fs.h, fiemap.h
_FICLONE, _FICLONERANGE = 0x40049409, 0x4020940D
_FS_IOC_GETFLAGS, _FS_IOC_SETFLAGS = 0x80086601, 0x40086602
_FS_NOCOW_FL = 0x00800000
_FS_IOC_FIEMAP = 0xC020660B
# include/uapi/linux/btrfs.h
_FORGET_DEV = 0x50009405
_SUBVOL_CREATE, _SNAP_DESTROY, _SNAP_CREATE_V2 = 0x5000940E, 0x5000940F, 0x50009417
_DEFAULT_SUBVOL = 0x40089413
_INO_LOOKUP = 0xD0009412
_FS_INFO = 0x8400941F
_GET_SUBVOL_INFO = 0x81F8943C
_SUBVOL_RDONLY = 1 << 1

# include/uapi/linux/falloc.h
KEEP_SIZE, PUNCH_HOLE, ZERO_RANGE = 0x01, 0x02, 0x10

FIEMAP_LAST, FIEMAP_ENCODED, FIEMAP_INLINE = 0x1, 0x8, 0x200
FIEMAP_UNWRITTEN, FIEMAP_SHARED = 0x800, 0x2000

_FIEMAP_HEAD, _FIEMAP_EXTENT = struct.Struct("=QQIIII"), struct.Struct("=QQQQQIIII")
_FIEMAP_ROWS = 512

_libc = ctypes.CDLL(None, use_errno=True)
_libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_longlong, ctypes.c_longlong]
_libc.statx.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_uint, ctypes.c_void_p]


class FiemapRow(NamedTuple):
    """One row of FS_IOC_FIEMAP, in bytes; neighbours on disk that have equal flags come as one row."""

    offset: int  # in the file
    logical: int  # btrfs's own address space, though FIEMAP calls it physical
    length: int
    flags: int  # FIEMAP_*


class Stat(NamedTuple):
    """What statx() says of an inode; times in ns since 1970."""

    ino: int
    mode: int
    uid: int
    gid: int
    nlink: int
    size: int
    rdev: int
    atime: int
    mtime: int
    ctime: int
    btime: int
    dev: int


class SubvolumeInfo(NamedTuple):
    """What BTRFS_IOC_GET_SUBVOL_INFO says of the subvolume that holds a path; times in ns since 1970."""

    id: int
    name: bytes
    parent: int  # 0 for the top-level subvolume
    directory: int  # inode in *parent* that holds the name
    generation: int
    flags: int  # as in the root item: 1 for read-only
    uuid: bytes
    parent_uuid: bytes
    received_uuid: bytes
    ctransid: int
    otransid: int
    stransid: int
    rtransid: int
    ctime: int
    otime: int
    stime: int
    rtime: int


def run(*command: str) -> str:
    """Run *command* and return its standard output; RuntimeError carries its standard error."""
    done = subprocess.run(command, capture_output=True, text=True, errors="surrogateescape", check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: exit {done.returncode}: {done.stderr.strip()}")
    return done.stdout


# Devices and mounts


@contextmanager
def loop_devices(images: Sequence[str], *, read_only: bool = False) -> Iterator[list[str]]:
    """Attach every image to a loop device of its own; detach them at the end."""
    mode = ["--read-only"] if read_only else []
    with ExitStack() as stack:
        devices = []
        for image in images:
            device = run("losetup", "--find", "--show", *mode, image).strip()
            stack.callback(_detach, device)
            devices.append(device)
        yield devices


def _detach(device: str) -> None:
    # A device of a multi-device filesystem stays known to the kernel after umount; without this, a copy
    # of the image (equal fsid) would be taken for a moved device.
    with suppress(OSError):
        fd = os.open("/dev/btrfs-control", os.O_RDWR)
        try:
            fcntl.ioctl(fd, _FORGET_DEV, bytearray(struct.pack("=q4088s", 0, device.encode())))
        finally:
            os.close(fd)
    run("losetup", "--detach", device)


@contextmanager
def mount(images: Sequence[str], *, read_only: bool = False, options: Sequence[str] = ()) -> Iterator[str]:
    """Mount the filesystem that lies on *images*, from its top-level subvolume; give the directory.

    Transactions commit on request only (every 5 minutes by itself), and freed space is not discarded.
    """
    with ExitStack() as stack:
        devices = stack.enter_context(loop_devices(images, read_only=read_only))
        where = stack.enter_context(tempfile.TemporaryDirectory(prefix="btrimg-mnt-"))
        also = [f"device={device}" for device in devices[1:]]
        access = "ro" if read_only else "rw"
        every = [access, "noatime", "nodiscard", "commit=300", f"subvolid={TOP_LEVEL}", *also, *options]
        run("mount", "-t", "btrfs", "-o", ",".join(every), devices[0], where)
        stack.callback(run, "umount", where)
        yield where


def remount(where: str, option: str) -> None:
    """Change one mount option of a mounted filesystem."""
    run("mount", "-o", f"remount,{option}", where)


# Calls. Paths are str or bytes; descriptors live for one call.


@contextmanager
def opened(path: str | bytes, flags: int = os.O_RDONLY, mode: int = 0o644) -> Iterator[int]:
    """Open *path* for the length of the block; give the descriptor."""
    fd = os.open(path, flags | os.O_CLOEXEC, mode)
    try:
        yield fd
    finally:
        os.close(fd)


def sync(path: str | bytes) -> None:
    """Commit the filesystem that holds *path*, and no other."""
    with opened(path) as fd:
        if _libc.syncfs(fd):
            raise OSError(ctypes.get_errno(), "syncfs", path)


def fallocate(path: str | bytes, mode: int, offset: int, length: int) -> None:
    """Preallocate (mode 0 or KEEP_SIZE), punch or zero a byte range of *path*, made if it is not there."""
    with opened(path, os.O_RDWR | os.O_CREAT) as fd:
        if _libc.fallocate(fd, mode, offset, length):
            raise OSError(ctypes.get_errno(), "fallocate", path)


def clone(source: str | bytes, target: str | bytes) -> None:
    """Make *target* a reflink of the whole of *source*."""
    with opened(source) as src, opened(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC) as dst:
        fcntl.ioctl(dst, _FICLONE, src)


def clone_range(source: str | bytes, offset: int, length: int, target: str | bytes, at: int) -> None:
    """Reflink bytes [offset, offset+length) of *source* to *at* in *target*; length 0 means to the end."""
    with opened(source) as src, opened(target, os.O_WRONLY | os.O_CREAT) as dst:
        fcntl.ioctl(dst, _FICLONERANGE, struct.pack("=qQQQ", src, offset, length, at))


def set_nocow(path: str | bytes) -> None:
    """Mark a directory (its new files inherit) or an empty file as neither copied on write nor checksummed."""
    with opened(path) as fd:
        flags = struct.unpack_from("=I", fcntl.ioctl(fd, _FS_IOC_GETFLAGS, bytes(8)))[0]
        fcntl.ioctl(fd, _FS_IOC_SETFLAGS, struct.pack("=II", flags | _FS_NOCOW_FL, 0))


def set_compression(path: str | bytes, algorithm: str) -> None:
    """Set the compression property: ``zlib``, ``lzo`` or ``zstd``."""
    os.setxattr(path, "btrfs.compression", algorithm.encode())


def create_subvolume(path: bytes) -> None:
    """Create an empty subvolume at *path*."""
    _name_ioctl(path, _SUBVOL_CREATE, "=q4088s", 0)


def delete_subvolume(path: bytes) -> None:
    """Delete the subvolume at *path*; the kernel frees its blocks later, in the background."""
    _name_ioctl(path, _SNAP_DESTROY, "=q4088s", 0)


def create_snapshot(source: bytes, path: bytes, *, read_only: bool) -> None:
    """Snapshot the subvolume *source* at *path*."""
    with opened(source) as fd:
        _name_ioctl(path, _SNAP_CREATE_V2, "=qQQ32x4040s", fd, 0, _SUBVOL_RDONLY if read_only else 0)


def _name_ioctl(path: bytes, request: int, layout: str, *head: int) -> None:
    parent, name = os.path.split(path)
    with opened(parent) as fd:
        fcntl.ioctl(fd, request, bytearray(struct.pack(layout, *head, name)))


def set_default_subvolume(path: str | bytes, subvolume: int) -> None:
    """Make *subvolume* the one that a mount without options shows."""
    with opened(path) as fd:
        fcntl.ioctl(fd, _DEFAULT_SUBVOL, struct.pack("=Q", subvolume))


def subvolume_id(path: str | bytes) -> int:
    """Return the id of the tree that holds *path* (a directory or a file)."""
    with opened(path) as fd:
        args = bytearray(4096)
        struct.pack_into("=QQ", args, 0, 0, SUBVOLUME_INO)
        fcntl.ioctl(fd, _INO_LOOKUP, args)
    tree: int = struct.unpack_from("=Q", args)[0]
    return tree


def subvolume_info(path: str | bytes) -> SubvolumeInfo:
    """Return what the kernel knows of the subvolume that holds *path*."""
    args = bytearray(504)
    with opened(path) as fd:
        fcntl.ioctl(fd, _GET_SUBVOL_INFO, args)
    tree, name, *rest = struct.unpack_from("=Q256s4Q16s16s16s4Q", args)
    times = [seconds * 10**9 + ns for seconds, ns in struct.iter_unpack("=QI4x", args[376:440])]
    return SubvolumeInfo(tree, name.rstrip(b"\0"), *rest, *times)


def node_size(path: str | bytes) -> int:
    """Return the size of the tree blocks of the filesystem that holds *path*."""
    args = bytearray(1024)
    with opened(path) as fd:
        fcntl.ioctl(fd, _FS_INFO, args)
    size: int = struct.unpack_from("=I", args, 32)[0]
    return size


def fiemap(path: str | bytes) -> tuple[FiemapRow, ...]:
    """Return every extent of a file in order; holes are the gaps between the rows."""
    with opened(path) as fd:
        rows: list[FiemapRow] = []
        while not (rows and rows[-1].flags & FIEMAP_LAST):
            start = rows[-1].offset + rows[-1].length if rows else 0
            more = _fiemap_once(fd, start)
            if not more:
                break
            rows += more
    return tuple(rows)


def _fiemap_once(fd: int, start: int) -> list[FiemapRow]:
    buffer = bytearray(_FIEMAP_HEAD.size + _FIEMAP_ROWS * _FIEMAP_EXTENT.size)
    _FIEMAP_HEAD.pack_into(buffer, 0, start, (1 << 64) - 1 - start, 0, 0, _FIEMAP_ROWS, 0)
    fcntl.ioctl(fd, _FS_IOC_FIEMAP, buffer)
    mapped = _FIEMAP_HEAD.unpack_from(buffer)[3]
    rows = []
    for slot in range(mapped):
        at = _FIEMAP_HEAD.size + slot * _FIEMAP_EXTENT.size
        offset, logical, length, _, _, flags, *_ = _FIEMAP_EXTENT.unpack_from(buffer, at)
        rows.append(FiemapRow(offset, logical, length, flags))
    return rows


def stat(path: bytes) -> Stat:
    """Return statx() of *path* itself, a symlink not followed; unlike os.stat it knows the birth time."""
    buffer = (ctypes.c_char * 256)()
    at_fdcwd, symlink_nofollow, basic_and_btime = -100, 0x100, 0xFFF
    if _libc.statx(at_fdcwd, path, symlink_nofollow, basic_and_btime, buffer):
        raise OSError(ctypes.get_errno(), "statx", path)
    raw = buffer.raw
    nlink, uid, gid, mode, ino, size = struct.unpack_from("=IIIH2xQQ", raw, 16)
    atime, btime, ctime, mtime = (s * 10**9 + ns for s, ns in struct.iter_unpack("=qI4x", raw[64:128]))
    rdev, dev = (os.makedev(*pair) for pair in struct.iter_unpack("=II", raw[128:144]))
    return Stat(ino, mode, uid, gid, nlink, size, rdev, atime, mtime, ctime, btime, dev)
