"""Devices whose writes wait, and are seen by who reads: until they are made, or forgotten."""

from __future__ import annotations

import os
from _thread import RLock  # threading takes 1.3 ms to import
from contextlib import suppress

from btrimg.errors import DeviceError
from btrimg.units import MIB
from btrimg.volume.device import Device, identity_of
from btrimg.volume.layer import Layer, Source, SpilledSource

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from typing_extensions import Buffer

_IN_MEMORY = 64 * MIB  #: bytes that wait in memory; more go to a file


class StagedDevice(Device):
    """A device with what is to be written to it: :meth:`pread` and :meth:`pread_into` see that.

    Its descriptor does not: the kernel knows nothing of it. The size may be changed. It is closed with its stage.
    """

    shows_all = False

    def __init__(self, path: str, lock: RLock) -> None:
        super().__init__(path)
        self.layer = Layer()
        self._lock = lock
        self.file_size = self.size  #: bytes that the file has; :attr:`size` is how many it will have

    def close(self) -> None:
        """Do nothing: it may be opened again."""

    def end(self) -> None:
        """Close the descriptor."""
        super().close()

    def pread(self, length: int, offset: int) -> bytes:
        """Return exactly *length* bytes from physical *offset*; raises as that of a device does."""
        layer = self.layer
        if not layer and self.size == self.file_size:
            return super().pread(length, offset)
        with self._lock:
            found = layer.whole(offset, offset + length)
            if found is not None:
                return found
            data = bytearray(length)
            self.pread_into(memoryview(data), offset)
        return bytes(data)

    def pread_into(self, buffer: memoryview, offset: int) -> None:
        """Fill *buffer* from physical *offset*; raises as that of a device does."""
        buffer = buffer.cast("B")
        with self._lock:
            if offset + len(buffer) > self.size:
                raise DeviceError(f"{self.path} ends at {self.size}: no {len(buffer)} bytes at {offset}")
            there = max(min(self.file_size - offset, len(buffer)), 0)
            super().pread_into(buffer[:there], offset)
            buffer[there:] = bytes(len(buffer) - there)
            self.layer.cover(buffer, offset)

    def pread_below(self, length: int, offset: int) -> bytes:
        """Return what stands on the device, of what waits nothing; zeros behind its end."""
        there = max(min(self.file_size - offset, length), 0)
        if there == length and offset + length <= self.size:
            return super().pread(length, offset)
        data = bytearray(length)
        super().pread_into(memoryview(data)[:there], offset)
        return bytes(data)


class Stage:
    """What waits to be written to devices, by file (context manager): memory is bounded, a file takes the rest."""

    def __init__(self) -> None:
        self.lock = RLock()
        self._devices: dict[tuple[int, int], StagedDevice] = {}
        self._spill: int | None = None
        self._spilled = self._kept = 0  # bytes of that file
        self.held = 0  #: bytes that were put since the last :meth:`clear`

    def close(self) -> None:
        """Forget all, and close the devices."""
        self.clear()
        for device in self._devices.values():
            device.end()
        self._devices.clear()
        if self._spill is not None:
            os.close(self._spill)
            self._spill = None

    def open(self, path: str) -> StagedDevice:
        """Return a device, opened if it is not yet; raise DeviceError when it cannot be."""
        device = None
        with suppress(OSError, ValueError):
            device = self._devices.get(identity_of(os.stat(path)))
        if device is None:
            device = StagedDevice(path, self.lock)
            self._devices[device.identity] = device
        return device

    def put(self, device: StagedDevice, physical: int, data: Buffer) -> None:
        """Let *data* wait; raise DeviceError when they do not fit on the device."""
        held = bytes(data)
        if physical < 0 or physical + len(held) > device.size:
            raise DeviceError(f"{device.path} ends at {device.size}: no {len(held)} bytes at {physical}")
        with self.lock:
            self.held += len(held)
            source = Source(held) if self.held <= _IN_MEMORY else self._spilled_source(held)
            device.layer.put(physical, physical + len(held), source)

    def _spilled_source(self, data: bytes) -> Source:
        import tempfile

        if self._spill is None:
            with tempfile.TemporaryFile() as file:
                self._spill = os.dup(file.fileno())
        self._spilled += len(data)
        try:
            return SpilledSource(data, self._spill, self._spilled - len(data))
        except OSError as error:
            raise DeviceError(
                f"cannot keep what is to be written in {tempfile.gettempdir()}: {error.strerror}"
            ) from None

    def clear(self) -> None:
        """Forget what waits, or has been written, but for what was kept."""
        for device in self._devices.values():
            device.layer.clear()
        self.held, self._spilled = 0, self._kept

    def keep(self) -> None:
        """Let what waits now be there for good."""
        for device in self._devices.values():
            device.layer.keep()
        self._kept = self._spilled

    def waits(self) -> bool:
        """Return whether anything does."""
        return any(device.layer for device in self._devices.values())


def pieces_of(device: StagedDevice, longest: int = MIB) -> Iterator[tuple[int, bytes, bytes]]:
    """Yield (physical, before, after) of all that waits for *device*, at most *longest* bytes at once."""
    for start, end in device.layer.ranges():
        for at in range(start, end, longest):
            length = min(longest, end - at)
            yield at, device.pread_below(length, at), device.pread(length, at)
