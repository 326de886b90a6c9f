"""Undo files: what stood where an edit wrote, saved before it was overwritten.

A file is a row of records. Each has a head with a checksum of itself and of what follows it, so that a tail that was
torn when the machine stopped is known for one: what it would have saved has not been overwritten, because the records
of a write are durable before the write is begun. Numbers are little-endian; addresses are physical, by devid.

==========  ==========================================================================================
kind        what it says
==========  ==========================================================================================
``DEVICE``  a device as it was found: its size, whether it is a block device, its superblocks' CRCs, path
``DATA``    the bytes that stood at a range
``ZEROS``   that zeros stood there
``HOLE``    that a hole was there
``SIZE``    that the file was cut or made longer, and how long it was
``AFTER``   the CRC-32C of a superblock that is written next
``STATE``   CRC-32Cs of what stood in the ranges written when all was done
``END``     that all was done, and up to which byte of this file all was durable before that was written
``UNDOING`` that undoing has begun, likewise
``UNDONE``  that it was done, likewise
==========  ==========================================================================================
"""

from __future__ import annotations

import os
import struct

from btrimg.enums import IntEnum
from btrimg.errors import CorruptError, DeviceError
from btrimg.named import NamedTuple
from btrimg.ondisk.csum import crc32c

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

MAGIC = b"btrimg undo 1\n\0\0"
MOST = 1 << 20  #: bytes of one record, without its head
SUPERS = struct.Struct("<B3I")  #: payload of DEVICE before the path: block device or not, CRCs of superblocks, or 0
SUM = struct.Struct("<I")  #: payload of AFTER
SPAN = struct.Struct("<QQQI")  #: payload of STATE is a row of these: devid, physical, length, CRC
_HEAD = struct.Struct("<4sIQQQII")  # mark, kind, devid, physical, length, size of the payload, CRC
_MARK = b"UNDO"


class Kind(IntEnum):
    """What a record is."""

    DEVICE = 1
    DATA = 2
    ZEROS = 3
    HOLE = 4
    SIZE = 5
    AFTER = 6
    STATE = 7
    END = 8
    UNDOING = 9
    UNDONE = 10


class UndoRecord(NamedTuple):
    """One record."""

    kind: Kind
    devid: int = 0
    physical: int = 0
    length: int = 0
    payload: bytes = b""

    def head(self) -> bytes:
        """Return what stands before the payload."""
        bare = _HEAD.pack(_MARK, self.kind, self.devid, self.physical, self.length, len(self.payload), 0)
        return bare[:-4] + crc32c(self.payload, crc32c(bare)).to_bytes(4, "little")

    def pack(self) -> bytes:
        """Return the head and the payload."""
        return self.head() + self.payload


_LAST = (Kind.END, Kind.UNDOING, Kind.UNDONE)


def _unpack(head: bytes, fd: int, at: int) -> UndoRecord | None:
    """Return the record whose *head* was read at *at*, None when it is not whole."""
    if len(head) < _HEAD.size:
        return None
    mark, kind, devid, physical, length, size, _ = _HEAD.unpack(head)
    if mark != _MARK or kind not in Kind or size > MOST:
        return None
    record = UndoRecord(Kind(kind), devid, physical, length, os.pread(fd, size, at + _HEAD.size))
    return record if len(record.payload) == size and record.head() == head else None


class UndoReader:
    """An undo file opened for undoing (context manager); raises DeviceError or CorruptError when it is none."""

    def __init__(self, path: str) -> None:
        self.path = path
        try:
            self._fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except OSError as error:
            raise DeviceError(f"cannot open {path}: {error.strerror}") from None
        try:
            if os.pread(self._fd, len(MAGIC), 0) != MAGIC:
                raise CorruptError(f"{path} is no undo file of btrimg edit")
            self._end = self._find_end()
        except BaseException:
            os.close(self._fd)
            raise

    def __enter__(self) -> UndoReader:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)

    def records(self) -> Iterator[UndoRecord]:
        """Yield the records, one after the other: no more than one is in memory."""
        for record, _ in self._records():
            yield record

    def _records(self) -> Iterator[tuple[UndoRecord, int]]:
        at = len(MAGIC)
        while (record := _unpack(os.pread(self._fd, _HEAD.size, at), self._fd, at)) is not None:
            at += _HEAD.size + len(record.payload)
            yield record, at

    def _find_end(self) -> int:
        end = max((end for _, end in self._records()), default=len(MAGIC))
        size = os.fstat(self._fd).st_size
        tail = os.pread(self._fd, _HEAD.size, max(size - _HEAD.size, 0))
        last = _unpack(tail, self._fd, size - _HEAD.size)
        if last is not None and last.kind in _LAST and end < last.physical:
            raise CorruptError(f"{self.path} is damaged at {end}: what is saved behind it cannot be trusted")
        return end

    def append(self, kind: Kind) -> None:
        """Add a record that says how far undoing is; durable when this returns. Raises DeviceError."""
        try:
            os.ftruncate(self._fd, self._end)  # what was torn was never needed
            self._end += os.pwrite(self._fd, UndoRecord(kind, physical=self._end).pack(), self._end)
            os.fdatasync(self._fd)
        except OSError as error:
            raise DeviceError(f"cannot write {self.path}: {error.strerror}") from None


class UndoWriter:
    """An undo file in the making; what was appended is durable after :meth:`sync`. Raises DeviceError.

    The file is made when this is: it must not be there.
    """

    _AT_ONCE = 8 << 20  # bytes that are kept until they are written

    def __init__(self, path: str) -> None:
        self.path = path
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        self._parts, self._size, self._named = [MAGIC], 0, False
        self._bytes = 0
        self.durable = 0  #: bytes of the file that are

    def close(self) -> None:
        """Close the file; what was not written is lost."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def remove(self) -> None:
        """Close the file, and remove it."""
        self.close()
        os.unlink(self.path)

    def append(self, records: Iterable[UndoRecord]) -> None:
        """Add records."""
        for record in records:
            self._parts += (record.head(), record.payload)
            self._size += _HEAD.size + len(record.payload)
            if self._size >= self._AT_ONCE:
                self.write()

    def write(self) -> None:
        """Hand what was appended to the kernel, which writes it some time."""
        data = memoryview(b"".join(self._parts))
        done = 0
        try:
            while done < len(data):
                done += os.pwrite(self._fd, data[done:], self._bytes + done)
        except OSError as error:
            raise self._failed(error) from None  # all of it still waits: a later try writes over what is torn
        self._bytes += done
        self._parts, self._size = [], 0

    def sync(self) -> None:
        """Return when all that was appended is durable."""
        if not self._parts and self.durable == self._bytes:
            return
        self.write()
        try:
            os.fdatasync(self._fd)
            if not self._named:
                directory = os.open(os.path.dirname(os.path.abspath(self.path)), os.O_RDONLY | os.O_CLOEXEC)
                try:
                    os.fsync(directory)
                finally:
                    os.close(directory)
                self._named = True
            self.durable = self._bytes
        except OSError as error:
            self.close()  # what of it has come to the disk cannot be known: nothing is saved behind it
            raise self._failed(error) from None

    def _failed(self, error: OSError) -> DeviceError:
        return DeviceError(f"cannot save what is to be overwritten in {self.path}: {error.strerror}; nothing of it was")
