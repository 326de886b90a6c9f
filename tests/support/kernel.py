"""Have the running kernel write: loop devices, mounts, and the btrfs and VFS calls that the standard library lacks.

Those that only read are in ``btrimg.oracle.calls``. Needs root. The ioctl numbers are those of x86, arm, riscv and
s390 (``include/uapi/asm-generic/ioctl.h``).
"""

from __future__ import annotations

import ctypes
import fcntl
import glob
import os
import struct
import subprocess
import tempfile
import time
from collections import Counter
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

from btrimg.ondisk.constants import MAGIC, SUPERBLOCK_OFFSETS, SUPERBLOCK_SIZE
from btrimg.ondisk.superblock import Superblock
from btrimg.oracle.calls import FIEMAP_ENCODED as FIEMAP_ENCODED
from btrimg.oracle.calls import FIEMAP_INLINE as FIEMAP_INLINE
from btrimg.oracle.calls import FIEMAP_LAST as FIEMAP_LAST
from btrimg.oracle.calls import FIEMAP_SHARED as FIEMAP_SHARED
from btrimg.oracle.calls import FIEMAP_UNWRITTEN as FIEMAP_UNWRITTEN
from btrimg.oracle.calls import SUBVOLUME_INO as SUBVOLUME_INO
from btrimg.oracle.calls import FiemapRow as FiemapRow
from btrimg.oracle.calls import Stat as Stat
from btrimg.oracle.calls import fiemap as fiemap
from btrimg.oracle.calls import opened as opened
from btrimg.oracle.calls import stat as stat
from btrimg.oracle.calls import subvolume_id as subvolume_id
from btrimg.oracle.kernel import is_mounted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

TOP_LEVEL = 5  # tree id of the top-level subvolume

# include/uapi/linux/fs.h
_FICLONE, _FICLONERANGE = 0x40049409, 0x4020940D
_FS_IOC_GETFLAGS, _FS_IOC_SETFLAGS = 0x80086601, 0x40086602
_FS_NOCOW_FL = 0x00800000
# include/uapi/linux/btrfs.h
_FORGET_DEV = 0x50009405
_SUBVOL_CREATE, _SNAP_DESTROY, _SNAP_CREATE_V2 = 0x5000940E, 0x5000940F, 0x50009417
_DEFAULT_SUBVOL = 0x40089413
_FS_INFO = 0x8400941F
_GET_SUBVOL_INFO = 0x81F8943C
_SET_RECEIVED = 0xC0C89425
_SUBVOL_RDONLY = 1 << 1

_PATIENCE = 120  # seconds that anything may take which is sure to come, however busy the machine is

# include/uapi/linux/falloc.h
KEEP_SIZE, PUNCH_HOLE, ZERO_RANGE = 0x01, 0x02, 0x10

_libc = ctypes.CDLL(None, use_errno=True)
_libc.sync_file_range.argtypes = [ctypes.c_int, ctypes.c_longlong, ctypes.c_longlong, ctypes.c_uint]
_libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_longlong, ctypes.c_longlong]


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
def alone(images: Sequence[str]) -> Iterator[None]:
    """Wait until no other process has any image of the same filesystems attached, and keep them from it.

    The kernel takes a second device of the same fsid for one that has moved, and btrfs-progs look for devices among all
    that are attached: two copies of an image must never be there together, as workers that run beside each other would
    have it. Within a process it is up to the caller.
    """
    with ExitStack() as stack:
        for place in sorted({int.from_bytes(fsid[:7]) for fsid in map(_fsid, images) if fsid}):
            stack.enter_context(_held(place))
        yield


@contextmanager
def _held(place: int) -> Iterator[None]:
    """Hold the byte at *place* of a file that all processes lock; the system gives it back when the process ends."""
    _holders[place] += 1
    try:
        if _holders[place] == 1:
            fcntl.lockf(_lock_file(), fcntl.LOCK_EX, 1, place)
        yield
    finally:
        _holders[place] -= 1
        if not _holders[place]:
            fcntl.lockf(_lock_file(), fcntl.LOCK_UN, 1, place)


_holders: Counter[int] = Counter()


@cache
def _lock_file() -> int:
    """Open the file once: closing any descriptor of it would give back all that the process has locked."""
    return os.open(os.path.join(tempfile.gettempdir(), "btrimg-attached.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)


def _fsid(image: str) -> bytes | None:
    """Return the fsid in the first superblock of an image, None if there is no superblock."""
    with opened(image) as fd:
        raw = os.pread(fd, SUPERBLOCK_SIZE, SUPERBLOCK_OFFSETS[0])
    superblock = Superblock.unpack(raw) if len(raw) == SUPERBLOCK_SIZE else None
    return superblock.fsid if superblock and superblock.magic == MAGIC else None


@contextmanager
def loop_devices(images: Sequence[str], *, read_only: bool = False) -> Iterator[list[str]]:
    """Attach every image to a loop device of its own; detach them at the end. Only one process has a filesystem so.

    An unmounted filesystem goes with the last namespace that has its mount: that of a process made meanwhile, too.
    """
    mode = ["--read-only"] if read_only else []
    with ExitStack() as stack:
        stack.enter_context(alone(images))
        stack.callback(still_attached, images)
        devices = []
        for image in images:
            device = run("losetup", "--find", "--show", *mode, image).strip()
            stack.callback(_detach, device)
            devices.append(device)
        stack.callback(_wait_while, lambda: any(map(is_mounted, filter(None, map(_fsid, images)))))
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


def still_attached(images: Sequence[str]) -> set[str]:
    """Return which of *images* are attached to loop devices, but wait for what is only about to be given back.

    A detached device stays until the last one who has it open closes it, and btrfs-progs open each for a moment.
    """
    wanted = set(map(os.path.realpath, images))
    _wait_while(lambda: bool(attached_now() & wanted))
    return attached_now() & wanted


def _wait_while(condition: Callable[[], bool]) -> None:
    """Wait as long as *condition* holds, but for two minutes at most."""
    end = time.monotonic() + _PATIENCE
    while condition() and time.monotonic() < end:
        time.sleep(0.005)


def attached_now() -> set[str]:
    """Return the files that lie behind loop devices."""
    return {backing_file(os.path.basename(path)) for path in glob.glob("/sys/block/loop*")} - {""}


def backing_file(loop: str) -> str:
    """Return the file that lies behind the loop device of that name, none if nothing does."""
    with (
        suppress(OSError),
        open(f"/sys/block/{loop}/loop/backing_file", encoding="utf-8", errors="surrogateescape") as file,
    ):
        return file.read().rstrip("\n")
    return ""


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


def sync(path: str | bytes) -> None:
    """Commit the filesystem that holds *path*, and no other."""
    with opened(path) as fd:
        if _libc.syncfs(fd):
            raise OSError(ctypes.get_errno(), "syncfs", path)


def write_back(fd: int) -> None:
    """Have what was written to an open file lie on the device; commits nothing, and writes no log."""
    wait_before, write, wait_after = 1, 2, 4  # SYNC_FILE_RANGE_*
    if _libc.sync_file_range(fd, 0, 0, wait_before | write | wait_after):
        raise OSError(ctypes.get_errno(), "sync_file_range")


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


def finish_deletions(path: str | bytes) -> None:
    """Wait until the blocks of every deleted subvolume are free: what unmounting leaves of one depends on the load."""
    run("btrfs", "filesystem", "sync", os.fsdecode(path))  # the ioctl, unlike syncfs(), also wakes who frees them
    run("btrfs", "subvolume", "sync", os.fsdecode(path))


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


def set_received(path: str | bytes, uuid: bytes, transid: int, seconds: int) -> None:
    """Mark the subvolume at *path* as received from one with *uuid*, which was sent at *transid* and *seconds*."""
    args = struct.pack("=16sQQQI4xQI4xQ128x", uuid, transid, 0, seconds, 0, 0, 0, 0)
    with opened(path) as fd:
        fcntl.ioctl(fd, _SET_RECEIVED, bytearray(args))


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
