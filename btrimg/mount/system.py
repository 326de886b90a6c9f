"""Mounting and unmounting: the system calls, and fusermount3 for those who may not make them.

libc has no functions for the newer calls, which have the same numbers on every architecture; ctypes makes them.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import socket
import subprocess
import time

from btrimg.errors import BtrimgError, NotFoundError
from btrimg.named import NamedTuple

FUSE_DEVICE = "/dev/fuse"
KIND = "fuse.btrimg"  #: of our mounts, in /proc/self/mountinfo

_MOVE_MOUNT, _FSOPEN, _FSCONFIG, _FSMOUNT = 429, 430, 431, 432
_SET_FLAG, _SET_STRING, _CREATE = 0, 1, 6  # FSCONFIG_*
_RDONLY, _NOSUID, _NODEV, _NOEXEC = 0x1, 0x2, 0x4, 0x8  # MOUNT_ATTR_*
_CLOEXEC, _EMPTY_PATH, _AT_FDCWD = 1, 4, -100
_MNT_DETACH, _UMOUNT_NOFOLLOW = 2, 8

_POLL = 0.005  #: seconds between looks whether a server has ended

_libc = ctypes.CDLL(None, use_errno=True)


class MountError(BtrimgError):
    """Report that something cannot be mounted or unmounted, and why."""


class Mounted(NamedTuple):
    """A mount."""

    point: str
    source: str
    kind: str  #: of filesystem
    device: str  #: MAJOR:MINOR, no other mount's that is not of the same filesystem


def open_fuse() -> int:
    """Return a new connection to the kernel's FUSE, not mounted yet."""
    try:
        return os.open(FUSE_DEVICE, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise MountError(f"cannot open {FUSE_DEVICE}: {error.strerror}; the kernel needs FUSE") from None


def attach(fuse: int, point: str, source: str, *, allow_other: bool) -> None:
    """Mount what will be served on *fuse* at the directory *point*: read-only, without set-user-id and devices.

    Only the mounting user may enter, unless *allow_other*, and everybody as far as permissions go, which the kernel
    looks at. Needs CAP_SYS_ADMIN. Raises MountError.
    """
    flags = ("default_permissions", "allow_other") if allow_other else ("default_permissions",)
    mount = _new_mount(fuse, source, _RDONLY | _NOSUID | _NODEV, flags)
    try:
        _call(_MOVE_MOUNT, mount, b"", _AT_FDCWD, os.fsencode(point), _EMPTY_PATH)
    except OSError as error:
        number = error.errno or 0
        if number == errno.EINVAL and not os.path.isdir(point):
            number = errno.ENOTDIR
        raise MountError(f"cannot mount at {point}: {os.strerror(number)}") from None
    finally:
        os.close(mount)


def attach_nowhere(fuse: int) -> int:
    """Return a descriptor of the top of a mount that hangs nowhere: no path leads there, and it ends with us."""
    return _new_mount(fuse, "btrimg", _RDONLY | _NOSUID | _NODEV | _NOEXEC, ())


def _new_mount(fuse: int, source: str, attributes: int, flags: tuple[str, ...]) -> int:
    values = {
        "source": source,
        "subtype": KIND.partition(".")[2],
        "fd": str(fuse),
        "rootmode": "40000",
        "user_id": str(os.getuid()),
        "group_id": str(os.getgid()),
    }
    try:
        context = _call(_FSOPEN, b"fuse", _CLOEXEC)
        try:
            for name, value in values.items():
                _call(_FSCONFIG, context, _SET_STRING, name.encode(), os.fsencode(value), 0)
            for name in ("ro", *flags):
                _call(_FSCONFIG, context, _SET_FLAG, name.encode(), None, 0)
            _call(_FSCONFIG, context, _CREATE, None, None, 0)
            return _call(_FSMOUNT, context, _CLOEXEC, attributes)
        finally:
            os.close(context)
    except OSError as error:
        raise MountError(f"cannot make a FUSE mount: {error.strerror}") from None


def attach_by_helper(point: str, source: str, *, allow_other: bool) -> int:
    """Mount at *point* by fusermount3, which may do so for anybody; return the connection.

    The user may read all files of the image, unless *allow_other*: then permissions count for everybody.
    Raises MountError with what it says, or when it is not there.
    """
    options = ["ro", "nosuid", "nodev", "subtype=btrimg", f"fsname={source.replace(',', chr(92) + ',')}"]
    if allow_other:
        options += ["allow_other", "default_permissions"]
    ours, its = socket.socketpair()
    with ours, its:
        environment = {"_FUSE_COMMFD": str(its.fileno()), "PATH": os.defpath}
        _run_helper(["-o", ",".join(options), "--", point], environment, (its.fileno(),))
        _, descriptors, _, _ = socket.recv_fds(ours, 1, 1)
    if not descriptors:
        raise MountError("fusermount3 did not hand over the mount")
    os.set_inheritable(descriptors[0], False)
    return descriptors[0]


def _run_helper(arguments: list[str], environment: dict[str, str], descriptors: tuple[int, ...] = ()) -> None:
    try:
        done = subprocess.run(  # noqa: S603 (arguments that the user gave, to no shell)
            ["fusermount3", *arguments],  # noqa: S607 (found where the system keeps programs)
            pass_fds=descriptors,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
    except FileNotFoundError:
        raise MountError("without root, mounting needs fusermount3, of the package fuse3") from None
    if done.returncode:
        raise MountError(done.stderr.strip() or f"fusermount3 ended with {done.returncode}")


def detach(point: str, *, lazy: bool) -> None:
    """Unmount what is mounted at *point*; if *lazy*, also while it is in use: it goes when the last user does.

    Raises MountError.
    """
    if os.geteuid():
        _run_helper(["-u", *(["-z"] if lazy else []), "--", point], {"PATH": os.defpath})
        return
    if _libc.umount2(os.fsencode(point), _UMOUNT_NOFOLLOW | (_MNT_DETACH if lazy else 0)):
        number = ctypes.get_errno()
        hint = ": leave it, or give --lazy" if number == errno.EBUSY else ""
        raise MountError(f"cannot unmount {point}: {os.strerror(number)}{hint}")


def occupy(point: str) -> int | None:
    """Lock the directory *point*, at which will be mounted; return a descriptor, None if it cannot be locked.

    The lock is held until every process that has inherited the descriptor has ended, however it ends.
    """
    try:
        fd = os.open(point, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        os.close(fd)
        return None
    return fd


def wait_until_left(point: str, seconds: float) -> None:
    """Wait until the server of what was mounted at *point* has ended.

    Raises MountError when it has not in that time.
    """
    try:
        fd = os.open(point, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:  # as it was for ``occupy``
        return
    try:
        end = time.monotonic() + seconds
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > end:
                    raise MountError(
                        f"{point} is unmounted, but its server still runs: is it mounted in another namespace, too?"
                    ) from None
                time.sleep(_POLL)
            else:
                return
    except OSError:  # a filesystem without such locks
        return
    finally:
        os.close(fd)


def find(point: str) -> Mounted:
    """Return the mount of ours at *point*, whose server may be gone.

    Raises NotFoundError when there is none, or another lies over it.
    """
    found = top_mount(point)
    if found is None and point:  # then nothing there can hang
        found = top_mount(os.path.realpath(point))
    if found is None or found.kind != KIND:
        raise NotFoundError(f"btrimg has mounted nothing at {point}")
    return found


def top_mount(point: str) -> Mounted | None:
    """Return what is mounted at *point*, the last of several."""
    # Neither stat nor realpath of the directory itself: a server that hangs would hang them too.
    parent, name = os.path.split(os.path.abspath(point))
    wanted = os.path.join(os.path.realpath(parent), name)
    found = None
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as lines:
        for line in lines:
            before, _, after = line.partition(" - ")
            _, _, device, _, where, *_ = before.split(" ")
            kind, source, *_ = after.split(" ")
            if _unescaped(where) == wanted:
                found = Mounted(wanted, _unescaped(source), kind, device)
    return found


def _unescaped(text: str) -> str:
    """Return a field of mountinfo, in which space, tab, newline and backslash are octal (fs/proc_namespace.c)."""
    for octal in ("040", "011", "012", "134"):
        text = text.replace(f"\\{octal}", chr(int(octal, 8)))
    return text


def read_ahead(device: str, size: int) -> None:
    """Let the kernel read *size* bytes ahead of readers of the mount that is *device* MAJOR:MINOR, if we may say so."""
    try:
        with open(f"/sys/class/bdi/{device}/read_ahead_kb", "w", encoding="ascii") as file:
            file.write(str(size >> 10))
    except OSError:
        pass  # the default, 128 KiB, is slower and nothing else


def _call(number: int, *arguments: int | bytes | None) -> int:
    wide = [ctypes.c_long(value) if isinstance(value, int) else value for value in arguments]
    result: int = _libc.syscall(ctypes.c_long(number), *wide)
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result
