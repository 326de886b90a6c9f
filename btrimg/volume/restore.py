"""What an edit has overwritten, brought back byte for byte from its undo file."""

from __future__ import annotations

import os

from btrimg.errors import CorruptError, NotFoundError, RefusedError
from btrimg.named import NamedTuple
from btrimg.ondisk.constants import SUPERBLOCK_OFFSETS, SUPERBLOCK_SIZE
from btrimg.ondisk.csum import crc32c
from btrimg.volume.superblocks import read_copies
from btrimg.volume.undofile import MOST, SPAN, SUM, SUPERS, Kind, UndoReader

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from btrimg.volume.device import Device
    from btrimg.volume.sink import DeviceSink
    from btrimg.volume.undofile import UndoRecord

_SAVED = (Kind.DATA, Kind.ZEROS, Kind.HOLE)
_ABOUT_ALL = (Kind.END, Kind.UNDOING, Kind.UNDONE)
_LONGEST = (1 << 63) - 1  # bytes of a file
_PIECE = 1 << 20


class Found(NamedTuple):
    """A device as the edit found it."""

    devid: int
    size: int
    is_block: bool
    path: str
    superblocks: tuple[int, ...]  #: CRCs, 0 where the device ends before


class Progress(NamedTuple):
    """How far the edit came, and an undo after it."""

    ended: bool
    undoing: bool
    undone: bool


class UndoFile:
    """An undo file, and the devices that it is about; raises CorruptError when no edit can have written it."""

    def __init__(self, reader: UndoReader) -> None:
        self._reader = reader
        self.path = reader.path
        self.found: dict[int, Found] = {}
        self.saved = 0  #: bytes that are brought back, without holes
        self.has_holes = False  #: whether there are some to bring back
        self._after: dict[tuple[int, int], set[int]] = {}
        self._resized: set[int] = set()
        kinds = set()
        for record in reader.records():
            kinds.add(record.kind)
            if not self._is_possible(record):
                raise CorruptError(
                    f"{self.path} is damaged: no edit writes a record of kind {record.kind} like one in it"
                )
            self._learn(record)
        self.progress = Progress(Kind.END in kinds, Kind.UNDOING in kinds, Kind.UNDONE in kinds)

    def _is_possible(self, record: UndoRecord) -> bool:
        """Return whether what is read of a record later is there; the devices come before all that is about them."""
        kind, size = record.kind, len(record.payload)
        if kind == Kind.DEVICE:
            return size > SUPERS.size and record.length <= _LONGEST
        if kind == Kind.STATE:
            return not size % SPAN.size and all(devid in self.found for devid, *_ in SPAN.iter_unpack(record.payload))
        if kind in _ABOUT_ALL:
            return True
        found = self.found.get(record.devid)
        if found is None or kind == Kind.SIZE:
            return found is not None
        if kind == Kind.AFTER:
            return size == SUM.size
        length = size if kind == Kind.DATA else record.length
        return (
            length == record.length and record.physical + length <= found.size and (kind == Kind.HOLE or length <= MOST)
        )

    def _learn(self, record: UndoRecord) -> None:
        if record.kind == Kind.DEVICE:
            is_block, *sums = SUPERS.unpack_from(record.payload)
            path = os.fsdecode(record.payload[SUPERS.size :])
            self.found[record.devid] = Found(record.devid, record.length, bool(is_block), path, tuple(sums))
        elif record.kind == Kind.AFTER:
            self._after.setdefault((record.devid, record.physical), set()).add(*SUM.unpack(record.payload))
        elif record.kind == Kind.SIZE:
            self._resized.add(record.devid)
        elif record.kind == Kind.HOLE:
            self.has_holes = True
        elif record.kind in _SAVED:
            self.saved += record.length

    def assign(self, devices: Sequence[Device]) -> dict[int, Device]:
        """Return *devices* by devid: as their superblocks say, or where that is not known the paths, or the sizes.

        Raises NotFoundError when some of those that were changed are not among them, or others are.
        """
        if not self.found:
            raise NotFoundError(f"{self.path} saved nothing: the edit was stopped before it wrote, or the file was cut")
        if len(devices) != len(self.found):
            paths = ", ".join(found.path for found in self.found.values())
            raise NotFoundError(f"{self.path} is about {len(self.found)} devices ({paths}): give all of them (-d)")
        if len(devices) == 1:
            return dict(zip(self.found, devices, strict=True))
        assigned: dict[int, Device] = {}
        left = list(devices)
        for fits in (self._has_superblock, self._has_path, self._has_size):
            for found in self.found.values():
                candidates = [device for device in left if fits(found, device)]
                if found.devid not in assigned and len(candidates) == 1:
                    assigned[found.devid] = candidates[0]
                    left.remove(candidates[0])
        if left:
            raise NotFoundError(f"{left[0].path} is none of the devices that {self.path} is about")
        return assigned

    def _has_superblock(self, found: Found, device: Device) -> bool:
        return any(crc in self._allowed(found, offset) for offset, crc in _superblock_sums(device))

    def _has_path(self, found: Found, device: Device) -> bool:
        return os.path.abspath(device.path) == found.path

    def _has_size(self, found: Found, device: Device) -> bool:
        return device.size == found.size

    def _allowed(self, found: Found, offset: int) -> set[int]:
        return {found.superblocks[SUPERBLOCK_OFFSETS.index(offset)]} | self._after.get((found.devid, offset), set())

    def require_unchanged(self, devices: Mapping[int, Device]) -> None:
        """Raise RefusedError when *devices* have been changed by others since the edit, as far as can be known.

        After an edit that ended, that is known of every byte that it wrote, and of the superblocks; of one that was
        killed, and when an undo was, of the superblocks.
        """
        for devid, found in self.found.items():
            device = devices[devid]
            sound = {copy.offset for copy in read_copies(device) if not copy.fault}
            for offset, crc in _superblock_sums(device):
                torn = offset not in sound and (self.progress.undoing or not self.progress.ended)
                if crc not in self._allowed(found, offset) and not torn:
                    raise _changed(f"the superblock at {offset} of {device.path} is another")
            if devid not in self._resized and device.size != found.size:
                raise _changed(f"{device.path} has {device.size} bytes, {found.size} then")
        if self.progress.ended and not self.progress.undoing:
            for devid, physical, length, crc in self._spans():
                if physical + length > devices[devid].size or crc32c(devices[devid].pread(length, physical)) != crc:
                    raise _changed(f"{length} bytes at {physical} of {devices[devid].path} are others")

    def _spans(self) -> Iterator[tuple[int, int, int, int]]:
        for record in self._reader.records():
            if record.kind == Kind.STATE:
                yield from SPAN.iter_unpack(record.payload)

    def differences(self, devices: Mapping[int, Device]) -> Iterator[tuple[UndoRecord, bool]]:
        """Yield what was saved, and whether other bytes stand there now."""
        for record in self._reader.records():
            if record.kind in _SAVED:
                yield record, not _stands(record, devices[record.devid])

    def is_restored(self, devices: Mapping[int, Device]) -> bool:
        """Return whether all is as it was before the edit."""
        sizes = all(found.is_block or devices[devid].size == found.size for devid, found in self.found.items())
        return sizes and not any(differs for _, differs in self.differences(devices))

    def restore(self, sink: DeviceSink, progress: Callable[[int], None] = lambda _bytes: None) -> None:
        """Bring back what was saved, durable when this returns; killed at any point, it can be done again.

        *progress* hears of bytes. Raises DeviceError.
        """
        self._reader.append(Kind.UNDOING)
        self.write_back(sink, progress)
        self._reader.append(Kind.UNDONE)

    def write_back(self, sink: DeviceSink, progress: Callable[[int], None] = lambda _bytes: None) -> None:
        """Bring back what was saved, durable when this returns, and note nothing of it in the undo file.

        Raises DeviceError.
        """
        for found in self.found.values():
            if not found.is_block and found.devid in self._resized:
                sink.resize(found.devid, found.size)
        for record in self._reader.records():
            if record.kind == Kind.HOLE and not self.found[record.devid].is_block:
                sink.punch(record.devid, record.physical, record.length)
            elif record.kind == Kind.DATA:
                sink.pwrite(record.devid, record.physical, record.payload)
            elif record.kind in _SAVED:
                sink.pwrite(record.devid, record.physical, bytes(record.length))
            if record.kind in _SAVED:
                progress(record.length)
        sink.sync()


def _superblock_sums(device: Device) -> Iterator[tuple[int, int]]:
    for offset in SUPERBLOCK_OFFSETS:
        if offset + SUPERBLOCK_SIZE <= device.size:
            yield offset, crc32c(device.pread(SUPERBLOCK_SIZE, offset))


def _stands(record: UndoRecord, device: Device) -> bool:
    if record.physical + record.length > device.size:
        return False
    if record.kind == Kind.DATA:
        return device.pread(record.length, record.physical) == record.payload
    for at in range(record.physical, record.physical + record.length, _PIECE):
        piece = device.pread(min(_PIECE, record.physical + record.length - at), at)
        if piece.count(0) != len(piece):
            return False
    return True


def _changed(how: str) -> RefusedError:
    return RefusedError(f"the image was changed after the edit ({how}): undoing would mix two states; --force does it")


def write_back(path: str, sink: DeviceSink) -> None:
    """Bring back all that the undo file at *path* has, which needs no room on the disk; raises DeviceError."""
    with UndoReader(path) as reader:
        UndoFile(reader).write_back(sink)
