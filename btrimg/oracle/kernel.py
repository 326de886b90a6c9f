"""Have the running kernel show a filesystem: its devices attached and mounted read-only, and nothing written to them.

Needs root. Everything ends with its ``with``, and also when the process is killed: a loop device goes with its last
user, and :func:`hide_mounts` lets mounts go with the process.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import platform
import stat
import struct
import sys
import tempfile
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from btrimg.errors import BtrimgError
from btrimg.volume.mounted import unmangled
from btrimg.volume.superblocks import uuid_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

TOP_LEVEL = 5  # tree id of the top-level subvolume

# include/uapi/linux/loop.h
_LOOP_GET_FREE, _LOOP_CONFIGURE = 0x4C82, 0x4C0A
_READ_ONLY, _AUTOCLEAR = 1, 4
_CONFIGURATION = struct.Struct("=II5Q4I64s64s32s2Q8Q")  # struct loop_config
_ATTEMPTS = 100  # somebody else may take the free device first
_PATIENCE = 5.0  # seconds

_SCAN_DEV, _FORGET_DEV = 0x50009404, 0x50009405  # include/uapi/linux/btrfs.h

# include/uapi/linux/mount.h, sched.h
_MS_RDONLY, _MS_NOSUID, _MS_NODEV, _MS_NOEXEC, _MS_REC, _MS_SLAVE = 1, 2, 4, 8, 0x4000, 1 << 19
_MNT_DETACH = 2
_CLONE_NEWNS = 0x20000

_libc = ctypes.CDLL(None, use_errno=True)


class MountError(BtrimgError):
    """Report that the kernel cannot be asked about an image; the text says why."""


def judge() -> str:
    """Return the name and version of the running kernel."""
    return f"Linux {platform.release()}"


def why_no_mounts() -> str | None:
    """Return why this process cannot mount images, None when it can try."""
    if os.geteuid():
        return "attaching and mounting it need root"
    return None if os.path.exists("/dev/loop-control") else "there are no loop devices here"


def hide_mounts(used: Iterable[str]) -> None:
    """Let nobody but this process and its children see what it mounts from now on; it all ends with the process.

    What others unmount would stay mounted here, and keep its devices and servers. Where the kernel does not pass their
    umounts on (private mounts), filesystems of btrfs and FUSE that hold none of the files *used* are unmounted here.
    """
    if _libc.unshare(_CLONE_NEWNS) or _libc.mount(b"none", b"/", None, _MS_REC | _MS_SLAVE, None):
        return
    paths = [os.fsencode(os.path.realpath(path)) + b"/" for path in (".", tempfile.gettempdir(), *sys.path, *used)]
    with open("/proc/self/mountinfo", "rb") as file:
        lines = file.readlines()
    for line in lines:
        seen, _, kind = line.partition(b" - ")
        point = unmangled(seen.split()[4])
        is_used = any(path.startswith(point.rstrip(b"/") + b"/") for path in paths)
        if kind.startswith((b"btrfs ", b"fuse")) and b" master:" not in seen and not is_used:
            _libc.umount2(point, _MNT_DETACH)


def is_mounted(fsid: bytes) -> bool:
    """Return whether the kernel has a filesystem of that fsid mounted."""
    return os.path.exists(f"/sys/fs/btrfs/{uuid_text(fsid)}")


@contextmanager
def attached(images: Sequence[str]) -> Iterator[list[str]]:
    """Attach files and block devices to loop devices that cannot be written to; give their paths.

    Raises MountError.
    """
    loops: list[tuple[int, str]] = []
    try:
        try:
            for image in images:
                loops.append(_attach(image))
        except OSError as error:
            raise MountError(f"cannot attach {image} to a loop device: {error.strerror}") from None
        yield [path for _, path in loops]
    finally:
        for (fd, path), image in zip(loops, images, strict=False):
            _leave(path, image)
            os.close(fd)
        for (_, path), image in zip(loops, images, strict=False):
            _await_detached(path, image)


def _attach(image: str) -> tuple[int, str]:
    """Return a loop device, which is free again when it is closed and not mounted."""
    backing = os.open(image, os.O_RDONLY | os.O_CLOEXEC)
    try:
        control = os.open("/dev/loop-control", os.O_RDWR | os.O_CLOEXEC)
        try:
            for _ in range(_ATTEMPTS):
                path = f"/dev/loop{fcntl.ioctl(control, _LOOP_GET_FREE)}"
                fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
                try:
                    fcntl.ioctl(fd, _LOOP_CONFIGURE, _configuration(backing, image))
                except OSError as error:
                    os.close(fd)
                    if error.errno != errno.EBUSY:
                        raise
                else:
                    return fd, path
        finally:
            os.close(control)
    finally:
        os.close(backing)
    raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))


def _configuration(backing: int, image: str) -> bytes:
    name = os.fsencode(image)[-63:]
    return _CONFIGURATION.pack(backing, 0, *[0] * 5, 0, 0, 0, _READ_ONLY | _AUTOCLEAR, name, b"", b"", 0, 0, *[0] * 8)


def _leave(loop: str, image: str) -> None:
    """Make the kernel forget the devices of a filesystem of several, which it knows by path even after umount.

    Else a copy of the image, of equal fsid, would be taken for a device that has moved. A block device is made known
    again, as it was before.
    """
    is_block_device = stat.S_ISBLK(os.stat(image).st_mode)
    for request, path in ((_FORGET_DEV, loop), *([(_SCAN_DEV, image)] if is_block_device else [])):
        with suppress(OSError):
            fd = os.open("/dev/btrfs-control", os.O_RDWR | os.O_CLOEXEC)
            try:
                fcntl.ioctl(fd, request, bytearray(struct.pack("=q4088s", 0, os.fsencode(path))))
            finally:
                os.close(fd)


def _await_detached(loop: str, image: str) -> None:
    """Wait until a loop device that is closed shows *image* no longer, a few seconds at most.

    It goes with the last who has it open, and btrfs-progs open all block devices that there are: those of somebody
    else would take the loop for a device of the filesystem when the image is attached again, and fail when it goes.
    """
    backing_file, end = f"/sys/block/{os.path.basename(loop)}/loop/backing_file", time.monotonic() + _PATIENCE
    with suppress(OSError):  # it shows nothing
        while time.monotonic() < end:
            with open(backing_file, "rb") as file:
                if file.read().rstrip(b"\n") != os.fsencode(os.path.realpath(image)):
                    return
            time.sleep(0.001)


@contextmanager
def mounted(devices: Sequence[str], *, options: Sequence[str] = ()) -> Iterator[str]:
    """Mount the filesystem on *devices* read-only from its top-level subvolume; give the directory, a private one.

    Raises MountError.
    """
    also = [f"device={device}" for device in devices[1:]]
    data = ",".join([f"subvolid={TOP_LEVEL}", *also, *options])
    flags = _MS_RDONLY | _MS_NOSUID | _MS_NODEV | _MS_NOEXEC
    with tempfile.TemporaryDirectory(prefix="btrimg-verify-") as where:
        try:  # before the mount: the directory must not be removed with what is mounted there, wherever a signal hits
            if _libc.mount(*map(os.fsencode, (devices[0], where, "btrfs")), flags, os.fsencode(data)):
                reason = os.strerror(ctypes.get_errno())
                raise MountError(f"the kernel does not mount it with {data}: {reason} (dmesg says more)")
            yield where
        finally:
            if _libc.umount2(os.fsencode(where), 0):
                _libc.umount2(os.fsencode(where), _MNT_DETACH)
