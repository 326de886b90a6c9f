"""Writes to devices that are kept in memory until all of them are known to be possible."""

from __future__ import annotations

from contextlib import ExitStack

from btrimg.errors import DeviceError
from btrimg.named import NamedTuple
from btrimg.volume.device import Device
from btrimg.volume.sink import DeviceSink

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

_PAGE = 4096


class Piece(NamedTuple):
    """Bytes of a device that differ from what stands there."""

    devid: int
    physical: int
    before: bytes
    after: bytes


class Draft:
    """Devices, and what is to be written to them; reading sees what was written."""

    def __init__(self, devices: Mapping[int, Device]) -> None:
        self._devices = devices
        self._pages: dict[tuple[int, int], bytearray] = {}

    def device(self, devid: int) -> Device:
        """Return a device; raise DeviceError when it is missing."""
        if devid not in self._devices:
            raise DeviceError(f"device {devid} is missing; if you have it, give it too (-d)")
        return self._devices[devid]

    def read(self, devid: int, physical: int, length: int) -> bytes:
        """Return *length* bytes from *physical* of a device; raise DeviceError when they are not there."""
        data = bytearray(self.device(devid).pread(length, physical))
        for start, page in self._touched(devid, physical, length):
            first, last = max(start, physical), min(start + _PAGE, physical + length)
            data[first - physical : last - physical] = page[first - start : last - start]
        return bytes(data)

    def _touched(self, devid: int, physical: int, length: int) -> Iterator[tuple[int, bytearray]]:
        for start in range(physical - physical % _PAGE, physical + length, _PAGE):
            page = self._pages.get((devid, start))
            if page is not None:
                yield start, page

    def write(self, devid: int, physical: int, data: bytes) -> None:
        """Take note of *data* for *physical* of a device; raise DeviceError when it would not fit there."""
        device = self.device(devid)
        if physical < 0 or physical + len(data) > device.size:
            raise DeviceError(f"device {devid} ends at {device.size}: no {len(data)} bytes at {physical}")
        for start in range(physical - physical % _PAGE, physical + len(data), _PAGE):
            if (devid, start) not in self._pages:
                length = min(_PAGE, device.size - start)
                self._pages[devid, start] = bytearray(device.pread(length, start))
        for start, page in self._touched(devid, physical, len(data)):
            first, last = max(start, physical), min(start + _PAGE, physical + len(data))
            page[first - start : last - start] = data[first - physical : last - physical]

    def changes(self) -> Iterator[Piece]:
        """Yield what differs from the devices, in order, neighbours of one page joined."""
        for (devid, start), page in sorted(self._pages.items()):
            before = self.device(devid).pread(len(page), start)
            different = [at for at in range(len(page)) if page[at] != before[at]]
            if different:
                first, last = different[0], different[-1] + 1
                yield Piece(devid, start + first, before[first:last], bytes(page[first:last]))


def write_pieces(paths: Mapping[int, str], pieces: Iterable[Piece]) -> None:
    """Write *pieces* to the files or block devices at *paths*, by devid, and have them reach the disk.

    One whose superblock and device item name different devids is there under both. Raises DeviceError when one cannot
    be written or is in use: before any is changed.
    """
    with ExitStack() as stack:
        devids = {path: devid for devid, path in paths.items()}
        devices = {devid: stack.enter_context(Device(path)) for path, devid in devids.items()}
        sink = stack.enter_context(DeviceSink(devices))
        for piece in pieces:
            sink.pwrite(devids[paths[piece.devid]], piece.physical, piece.after)
        sink.sync()
