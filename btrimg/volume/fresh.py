"""Blank devices for a new filesystem: sparse files that take their names when all is written, or block devices."""

from __future__ import annotations

import os
import stat
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from btrimg.errors import DeviceError
from btrimg.named import NamedTuple
from btrimg.ondisk.constants import SUPERBLOCK_OFFSETS, SUPERBLOCK_SIZE
from btrimg.units import MIB
from btrimg.volume.device import Device
from btrimg.volume.replacing import replacing
from btrimg.volume.sink import DeviceSink

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_ENDS = 2 * MIB  # of a block device, at either end: where partition tables and other filesystems have their marks


class FreshDevices(NamedTuple):
    """Devices without anything on them."""

    devices: dict[int, Device]  #: by devid, from 1 in the order of the outputs
    sink: DeviceSink

    def resize(self, devid: int, size: int) -> None:
        """Give a file *size* bytes, of which a block device, which stays as it is, must have no less.

        Raises DeviceError when that cannot be.
        """
        device = self.devices[devid]
        if device.is_block:
            if size > device.size:
                raise DeviceError(f"{device.path} is a block device of {device.size} bytes, not {size}")
            return
        try:
            os.truncate(device.path, size)
        except OSError as error:
            raise DeviceError(f"cannot give {device.path} {size} bytes: {error.strerror}") from None
        device.size = size


@contextmanager
def fresh_devices(outputs: Sequence[str], sizes: Sequence[int], *, force: bool = False) -> Iterator[FreshDevices]:
    """Make blank devices of *sizes* bytes for *outputs*: sparse files, or block devices of no less.

    At the end of the ``with`` block all is made durable and the files take their names; when it fails, the files are
    removed and block devices hold no filesystem. Raises DeviceError when a file exists already or a block device is
    not blank and *force* is not given, and when one is in use, too small or cannot be made.
    """
    _refuse_doubles(outputs)
    blocks = {output for output in outputs if block_size(output) is not None}
    with ExitStack() as stack:
        partials = iter(stack.enter_context(replacing([each for each in outputs if each not in blocks], force=force)))
        paths = [output if output in blocks else next(partials) for output in outputs]
        devices = {devid: stack.enter_context(Device(path)) for devid, path in enumerate(paths, 1)}
        fresh = FreshDevices(devices, stack.enter_context(DeviceSink(devices, durable=False)))
        for (devid, device), size in zip(devices.items(), sizes, strict=True):
            fresh.resize(devid, size)
            if device.is_block and not force and not _is_blank(device):
                raise DeviceError(f"{device.path} is not blank: give --force to write over what is there")
        try:
            _wipe(fresh)
            yield fresh
        except BaseException:
            _wipe(fresh)
            raise
        fresh.sink.durable = True
        fresh.sink.sync()


def _refuse_doubles(outputs: Sequence[str]) -> None:
    seen: dict[str, str] = {}
    for output in outputs:
        other = seen.setdefault(os.path.realpath(output), output)
        if other is not output:
            raise DeviceError(f"{output} is named twice: every device needs a file of its own")


def block_size(path: str) -> int | None:
    """Return the bytes of a block device; None for a file, whose size is still to be chosen.

    Raises DeviceError when it cannot be opened.
    """
    try:
        is_block = stat.S_ISBLK(os.stat(path).st_mode)
    except OSError:
        is_block = False
    if not is_block:
        return None
    with Device(path) as device:
        return device.size


def _is_blank(device: Device) -> bool:
    return not any(any(device.pread(length, start)) for start, length in _marks(device))


def _wipe(fresh: FreshDevices) -> None:
    """Take from block devices whatever somebody could know a filesystem by."""
    for devid, device in fresh.devices.items():
        if device.is_block:
            for start, length in _marks(device):
                fresh.sink.pwrite(devid, start, bytes(length))


def _marks(device: Device) -> Iterator[tuple[int, int]]:
    """Yield (physical, length) of where filesystems and partition tables have their marks."""
    yield 0, min(_ENDS, device.size)
    yield from ((offset, SUPERBLOCK_SIZE) for offset in SUPERBLOCK_OFFSETS if offset + SUPERBLOCK_SIZE <= device.size)
    yield max(device.size - _ENDS, 0), min(_ENDS, device.size)
