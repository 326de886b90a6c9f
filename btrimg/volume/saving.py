"""A sink that saves what it overwrites before it does, so that all of it can be undone."""

from __future__ import annotations

import errno
import os
from _thread import allocate_lock, start_new_thread  # threading takes 1.3 ms to import
from contextlib import suppress
from itertools import count

from btrimg.errors import DeviceError
from btrimg.ondisk.constants import SUPERBLOCK_OFFSETS, SUPERBLOCK_SIZE
from btrimg.ondisk.csum import crc32c
from btrimg.units import MIB
from btrimg.volume.holes import end_of_data, next_data
from btrimg.volume.ranges import Ranges
from btrimg.volume.sink import DeviceSink
from btrimg.volume.undofile import MOST, SPAN, SUM, SUPERS, Kind, UndoRecord, UndoWriter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _thread import LockType
    from collections.abc import Iterator, Mapping, Sequence

    from typing_extensions import Buffer

    from btrimg.volume.staged import Stage, StagedDevice

    _Due = tuple[int, Sequence[tuple[int, int]]]  # a device, and ranges of it that are to be written

_HELD = 32 * MIB  #: bytes that wait until what they overwrite is saved, all of it in one go
_ZEROS = bytes(MOST)
_SPANS = MOST // SPAN.size


class StagedSink:
    """Where bytes go that only wait: nothing is written. Also what :class:`SavingSink` has in common with it."""

    def __init__(self, stage: Stage, devices: Mapping[int, StagedDevice]) -> None:
        self._stage, self.devices = stage, devices
        self.holding = True  #: whether nothing is written for now: what waits may still be refused
        self.partly = False  #: whether some of what comes before the next sync is written already: it was much
        self._kept_sizes: dict[int, int] = {}

    def __enter__(self) -> StagedSink:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def pwrite(self, devid: int, physical: int, data: Buffer) -> None:
        """Write *data* at *physical* of a device; raise DeviceError when they do not fit there."""
        self._stage.put(self._device(devid), physical, data)

    def _device(self, devid: int) -> StagedDevice:
        if devid not in self.devices:
            raise DeviceError(f"device {devid} is missing; if you have it, give it too (-d)")
        return self.devices[devid]

    def sync(self) -> None:
        """Return when all that was written is durable."""

    def resize(self, devid: int, size: int) -> None:
        """Let the file of a device be *size* bytes long; a block device must have as many."""
        device = self._device(devid)
        if device.is_block:
            if size > device.size:
                raise DeviceError(f"{device.path} has {device.size} bytes, no {size}")
            return
        with self._stage.lock:
            device.layer.cut(size)
            device.size = size

    def forget(self) -> None:
        """Forget what waits to be written."""
        self._stage.clear()
        for devid, device in self.devices.items():
            device.size = self._kept_sizes.get(devid, device.file_size)

    def keep(self) -> None:
        """Let what waits be forgotten no more."""
        self._stage.keep()
        self._kept_sizes = {devid: device.size for devid, device in self.devices.items()}

    def save_ahead(self) -> None:
        """Begin to save what is going to be overwritten, while the caller goes on."""

    def close(self) -> None:
        """End."""

    @property
    def undo_path(self) -> str | None:
        """Return where the undo file is, if there is one."""
        return None


class SavingSink(StagedSink):
    """A sink of the devices by devid, locked; *undo* is the path of the undo file, made when it is first needed.

    Writes wait in *stage* until there are many, or a sync asks for them; then what stands there is saved and made
    durable, and they are made. Nothing is saved twice, and holes are saved as such. Several threads may write. Without
    *undo*, one *beside* a device is taken whose name is free.
    """

    def __init__(
        self, stage: Stage, devices: Mapping[int, StagedDevice], undo: str | None, beside: StagedDevice
    ) -> None:
        super().__init__(stage, devices)
        self._target = DeviceSink(devices)
        self._path, self._beside = undo, beside
        self._undo: UndoWriter | None = None
        self._saved = {devid: Ranges() for devid in devices}
        self._written = {devid: Ranges() for devid in devices}
        self.holding = False
        self._found_sizes = {devid: device.file_size for devid, device in devices.items()}
        self._has_begun = False  # to write
        self._ahead: LockType | None = None  # held by a thread that saves
        self._writes_ahead = False  # whether that thread writes, too
        self._failed: Exception | None = None  # what ended it

    @property
    def undo_path(self) -> str | None:
        """Return where the undo file is, if there is one."""
        return self._undo.path if self._undo else None

    def pwrite(self, devid: int, physical: int, data: Buffer) -> None:
        """Write *data* at *physical* of a device; raise DeviceError when that cannot be."""
        if self._writes_ahead:
            self._join()
        super().pwrite(devid, physical, data)
        if self._stage.held >= _HELD and not self.holding:
            self.flush()
            self.partly = True

    def sync(self) -> None:
        """Return when all that was written is durable; raise DeviceError when it cannot be made so."""
        if not self.holding:
            self.flush()
            self._target.sync()
            self.partly = False

    def save_ahead(self) -> None:
        """Begin to save what is overwritten by what waits now, and have it durable, while the caller goes on.

        Where some is written already, the rest is as well: who wants nothing of it rolls back.
        Otherwise nothing is written. :meth:`flush` waits for that, and raises what went wrong.
        """
        self._join()
        undo, due, busy = self._opened(), self._due(), allocate_lock()
        busy.acquire()
        self._ahead, self._writes_ahead = busy, self.partly and not self.holding
        writes = self._writes_ahead

        def save() -> None:
            try:
                self._save(undo, due)
                undo.sync()
                if writes:
                    self._write(due)
                    self._target.sync()
            except Exception as error:  # whoever waits raises it
                self._failed = error
            finally:
                busy.release()

        start_new_thread(save, ())

    def _join(self) -> None:
        """Wait until nothing is saved or written beside, and raise what ended that."""
        busy = self._ahead
        if busy is not None:
            with busy:  # when Ctrl-C comes here, who closes this waits once more
                pass
        with self._stage.lock:
            failed, self._failed = self._failed, None
            if busy is not None and busy is self._ahead:  # else another thread has waited, too, and goes on
                if self._writes_ahead and failed is None:
                    self._stage.clear()
                self._ahead, self._writes_ahead = None, False
        if failed is not None:
            raise failed

    def _due(self) -> list[_Due]:
        """Return what waits to be written."""
        return [(devid, [*device.layer.ranges()]) for devid, device in self.devices.items()]

    def _save(self, undo: UndoWriter, due: Sequence[_Due]) -> None:
        for devid, ranges in due:
            for start, end in ranges:
                undo.append(self._records(devid, start, end))
            undo.append(self._superblocks_after(devid))

    def flush(self) -> None:
        """Save what is overwritten by what waits, have that durable, and write: superblocks behind all else."""
        self._join()
        with self._stage.lock:
            if self._stage.waits():
                undo, due = self._opened(), self._due()
                self._save(undo, due)
                undo.sync()
                self._write(due)
            self._stage.clear()

    def _write(self, due: Sequence[_Due]) -> None:
        """Write what waits, which is saved."""
        self._has_begun = True
        for devid, ranges in due:
            for start, end in ranges:
                self._written[devid].add(start, end)
        last: list[tuple[int, int, bytes]] = []
        for devid, device in self.devices.items():
            for start, parts in device.layer.runs(4 * MIB):
                data = parts[0] if len(parts) == 1 else b"".join(parts)
                if len(data) == SUPERBLOCK_SIZE and start in SUPERBLOCK_OFFSETS:
                    last.append((devid, start, data))
                else:
                    self._target.pwrite(devid, start, data)
        if last:
            self._target.sync()
        for devid, start, data in sorted(last, key=lambda each: (-each[1], each[0])):
            self._target.pwrite(devid, start, data)

    def forget(self) -> None:
        """Forget what waits to be written."""
        with suppress(Exception):
            self._join()
        super().forget()
        self.partly = False

    def resize(self, devid: int, size: int) -> None:
        """Let the file of a device be *size* bytes long; what is cut off is saved. A block device must have as many."""
        self.flush()
        device = self._device(devid)
        if not device.is_block and size != device.file_size:
            undo = self._opened()
            undo.append(self._records(devid, size, device.file_size))
            undo.append([UndoRecord(Kind.SIZE, devid, 0, self._found_sizes[devid])])
            undo.sync()
            self._has_begun = True
            self._target.resize(devid, size)
            device.file_size = size
        super().resize(devid, size)

    def close(self) -> None:
        """Write down what state the devices are left in, and give up the locks. What waits is forgotten."""
        self.forget()
        undo, self._undo = self._undo, None
        try:
            if undo is not None:
                self._target.sync()
                with suppress(DeviceError):  # without it, less is known of whether others changed the image since
                    undo.append(self._state())
                    undo.append([UndoRecord(Kind.END, physical=undo.durable)])
                    undo.write()
        finally:
            if undo is not None:
                undo.close()
            self._target.close()

    def roll_back(self) -> None:
        """Undo all that was written, if anything was, and remove the undo file; it stays where that raises DeviceError.

        What waits is forgotten.
        """
        from btrimg.volume.restore import write_back

        self.forget()
        undo, self._undo = self._undo, None
        if undo is None:
            return
        try:
            if self._has_begun:
                write_back(undo.path, self._target)
        except DeviceError as error:
            raise DeviceError(f"{error}; `btrimg undo` brings back what is saved in {undo.path}") from None
        finally:
            undo.close()
        undo.remove()
        for devid, device in self.devices.items():
            device.size = device.file_size = self._found_sizes[devid]
        self._saved = {devid: Ranges() for devid in self.devices}
        self._written = {devid: Ranges() for devid in self.devices}
        self._has_begun = False

    # What is saved

    def _opened(self) -> UndoWriter:
        if self._undo is None:
            self._undo = _new_file(self._path, self._beside)
            self._undo.append(_as_found(devid, device) for devid, device in self.devices.items())
        return self._undo

    def _records(self, devid: int, start: int, end: int) -> Iterator[UndoRecord]:
        """Yield what has to be saved before [start, end) is overwritten."""
        device, saved = self.devices[devid], self._saved[devid]
        size = self._found_sizes[devid]  # what was written behind that goes when the file is cut again
        for first, last in list(saved.missing(start, min(end, size))):
            at = first
            while at < last:
                data_at = at if device.is_block else next_data(device.fileno(), at, device.file_size)
                if data_at > at:  # all of the hole: what is written there next needs nothing more
                    data_at = min(data_at, size)
                    for hole, hole_end in list(saved.missing(at, data_at)):
                        yield UndoRecord(Kind.HOLE, devid, hole, hole_end - hole)
                    saved.add(at, data_at)
                    at = data_at
                    continue
                stop = min(last, at + MOST)
                if not device.is_block:
                    stop = end_of_data(device.fileno(), at, stop)
                data = device.pread_below(stop - at, at)
                if data == _ZEROS[: len(data)]:
                    yield UndoRecord(Kind.ZEROS, devid, at, len(data))
                else:
                    yield UndoRecord(Kind.DATA, devid, at, len(data), data)
                saved.add(at, stop)
                at = stop

    def _superblocks_after(self, devid: int) -> Iterator[UndoRecord]:
        device = self.devices[devid]
        for offset in SUPERBLOCK_OFFSETS:
            end = offset + SUPERBLOCK_SIZE
            if end <= device.size and device.layer.covers(offset, end):
                crc = crc32c(device.pread(SUPERBLOCK_SIZE, offset))
                yield UndoRecord(Kind.AFTER, devid, offset, SUPERBLOCK_SIZE, SUM.pack(crc))

    def _state(self) -> Iterator[UndoRecord]:
        spans: list[bytes] = []
        for devid, device in self.devices.items():
            for start, end in self._written[devid]:
                for at in range(start, min(end, device.file_size), MOST):
                    length = min(MOST, end - at, device.file_size - at)
                    spans.append(SPAN.pack(devid, at, length, crc32c(device.pread(length, at))))
        for first in range(0, len(spans), _SPANS):
            yield UndoRecord(Kind.STATE, payload=b"".join(spans[first : first + _SPANS]))


def _as_found(devid: int, device: StagedDevice) -> UndoRecord:
    sums = [
        crc32c(device.pread_below(SUPERBLOCK_SIZE, offset)) if offset + SUPERBLOCK_SIZE <= device.file_size else 0
        for offset in SUPERBLOCK_OFFSETS
    ]
    payload = SUPERS.pack(device.is_block, *sums) + os.fsencode(os.path.abspath(device.path))
    return UndoRecord(Kind.DEVICE, devid, 0, device.file_size, payload)


def _new_file(path: str | None, device: StagedDevice) -> UndoWriter:
    """Make an undo file: without *path* under a free name beside an image file, or for a block device here."""
    base = (os.path.basename(device.path) if device.is_block else device.path) + ".undo"
    for number in count(1):
        name = path or (base if number == 1 else f"{base}.{number}")
        try:
            return UndoWriter(name)
        except FileExistsError:
            if path:
                raise DeviceError(f"{path} exists; name a new file for what is to be undone (--undo)") from None
        except OSError as error:
            hint = "" if error.errno != errno.EROFS and path else "; name another file (--undo)"
            raise DeviceError(f"cannot make {name}: {error.strerror}{hint}") from None
    raise AssertionError("names do not end")
