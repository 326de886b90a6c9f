"""From a path on a mounted btrfs to the devices below it and the path inside."""

from __future__ import annotations

import os
import struct
from contextlib import suppress

from btrimg.errors import DeviceError, NotFoundError, UnsupportedError
from btrimg.named import NamedTuple

# include/uapi/linux/btrfs.h; anybody may call them
_IOC_SYNC, _IOC_FS_INFO, _IOC_DEV_INFO = 0x9408, 0x8400941F, 0xD000941E
_FS_INFO_SIZE, _DEV_INFO_SIZE = 1024, 4096
_DEV_PATH = 3072  # offset of the path in struct btrfs_ioctl_dev_info_args, to its end


class MountedFile(NamedTuple):
    """A file of a mounted filesystem."""

    devices: tuple[str, ...]  #: without missing ones
    path: bytes  #: absolute from the top-level subvolume


class _Mount(NamedTuple):
    """A line of /proc/self/mountinfo."""

    root: bytes  # what is mounted; in btrfs a path from the top-level subvolume
    point: bytes
    kind: bytes


def find_mounted(path: bytes) -> MountedFile:
    """Return the devices below a file or directory on a mounted btrfs and its path inside, and commit it to them.

    Symlinks are followed, also the last one, because only the host knows where they lead. Raises NotFoundError when
    there is no such file, UnsupportedError when it is not on btrfs, DeviceError when it cannot be opened.
    """
    try:
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError as error:
        kind = NotFoundError if isinstance(error, FileNotFoundError | NotADirectoryError) else DeviceError
        raise kind(f"cannot open {os.fsdecode(path)}: {error.strerror}") from None
    try:
        resolved = os.readlink(b"/proc/self/fd/%d" % fd)
        mount = _mount_of(fd)
    finally:
        os.close(fd)
    if mount.kind != b"btrfs":
        raise UnsupportedError(f"{os.fsdecode(path)} is on {mount.kind.decode()}, not on btrfs")
    inside = os.path.join(mount.root, os.path.relpath(resolved, mount.point))
    return MountedFile(_commit_and_list_devices(resolved), os.path.normpath(inside))


def _mount_of(fd: int) -> _Mount:
    """Return the mount that an open file was reached through; by its id, because one mount may hide another."""
    with open(f"/proc/self/fdinfo/{fd}", "rb") as lines:
        number = next(line.split()[1] for line in lines if line.startswith(b"mnt_id:"))
    with open("/proc/self/mountinfo", "rb") as lines:
        for line in lines:
            before, _, after = line.partition(b" - ")
            fields = before.split()
            if fields[0] == number:
                return _Mount(unmangled(fields[3]), unmangled(fields[4]), after.split()[0])
    raise UnsupportedError("its mount is not visible from this mount namespace")


def unmangled(field: bytes) -> bytes:
    r"""Return a field of mountinfo with ``\040`` and the like taken back (fs/proc_namespace.c ``mangle``)."""
    head, *parts = field.split(b"\\")
    return head + b"".join(bytes([int(part[:3], 8)]) + part[3:] for part in parts)


def _commit_and_list_devices(path: bytes) -> tuple[str, ...]:
    from fcntl import ioctl

    # A device node or a FIFO would not pass the calls on to btrfs; its directory does.
    where = path if os.path.isfile(path) or os.path.isdir(path) else os.path.dirname(path)
    try:
        fd = os.open(where, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise DeviceError(f"cannot open {os.fsdecode(where)}: {error.strerror}") from None
    try:
        ioctl(fd, _IOC_SYNC)  # else the devices hold less than the file
        info = bytearray(_FS_INFO_SIZE)
        ioctl(fd, _IOC_FS_INFO, info)
        (max_devid,) = struct.unpack_from("=Q", info)
        paths = [_device_path(fd, devid) for devid in range(1, max_devid + 1)]
    except OSError as error:
        raise DeviceError(f"btrfs does not answer for {os.fsdecode(where)}: {error.strerror}") from None
    finally:
        os.close(fd)
    return tuple(path for path in paths if path)


def _device_path(fd: int, devid: int) -> str:
    """Return the path of a device, empty when it is missing or no device has that id."""
    from fcntl import ioctl

    info = bytearray(_DEV_INFO_SIZE)
    struct.pack_into("=Q", info, 0, devid)
    try:
        ioctl(fd, _IOC_DEV_INFO, info)
    except OSError:  # ENODEV: ids have gaps
        return ""
    return os.fsdecode(bytes(info[_DEV_PATH:]).partition(b"\0")[0])


def refuse_if_in_use(path: str) -> None:
    """Raise DeviceError when writing to an image would not go unnoticed: it is mounted, or is a loop device's file.

    A loop device that is read-only and not mounted does no harm.
    """
    try:
        status = os.stat(path)
    except OSError as error:
        raise DeviceError(f"cannot write {path}: {error.strerror}") from None
    filesystems = [f"/sys/fs/btrfs/{name}/devices" for name in _names_in("/sys/fs/btrfs")]
    mounted = {_number_of(f"{devices}/{name}") for devices in filesystems for name in _names_in(devices)}
    if status.st_rdev in mounted:
        raise DeviceError(f"{path} is mounted; unmount it first")
    for loop in (f"/sys/block/{name}" for name in _names_in("/sys/block") if name.startswith("loop")):
        with suppress(OSError):  # it is attached to nothing, or that is gone by now, or in another mount namespace
            behind = os.stat(_line_of(f"{loop}/loop/backing_file"))
            if os.path.samestat(behind, status) and (_number_of(loop) in mounted or _line_of(f"{loop}/ro") == "0"):
                device = "/dev/" + os.path.basename(loop)
                raise DeviceError(f"{path} is attached to {device}; unmount that and run losetup --detach {device}")


def _names_in(directory: str) -> list[str]:
    try:
        return os.listdir(directory)
    except OSError:  # no btrfs is mounted, or it just went
        return []


def _number_of(directory: str) -> int | None:
    """Return the device number of the device of which *directory* in sysfs tells; None if it is gone by now."""
    try:
        major, minor = map(int, _line_of(f"{directory}/dev").split(":"))
    except OSError:
        return None
    return os.makedev(major, minor)


def _line_of(path: str) -> str:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.fsdecode(os.read(fd, 4096)).rstrip("\n")  # in sysfs no file is longer
    finally:
        os.close(fd)
