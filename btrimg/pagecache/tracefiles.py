"""Which files of an image a trace is about, and its accesses as reads of pages of these files."""

from __future__ import annotations

import os.path
from typing import TYPE_CHECKING

import numpy as np

from btrimg.errors import BtrimgError, CorruptError, TraceError
from btrimg.named import NamedTuple
from btrimg.pagecache.accesses import FAULT, FILL, WRITE, Accesses, InodeName
from btrimg.pagecache.pages import PAGE_SHIFT
from btrimg.pagecache.streams import Reads

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from btrimg.filesystem.image import Image
    from btrimg.pagecache.accesses import Name
    from btrimg.pagecache.filerows import FileRows
    from btrimg.pagecache.pages import Ints
    from btrimg.pagecache.traces import Trace

_ELSEWHERE, _NOT_THERE, _NO_FILE, _DAMAGED, _RELATIVE, _OTHER_DEVICE, _AMBIGUOUS = range(-7, 0)
_WHY = {
    _ELSEWHERE: "of a file elsewhere",
    _NOT_THERE: "of a file that the image does not have",
    _NO_FILE: "of what is no regular file",
    _DAMAGED: "of a file that cannot be read",
    _RELATIVE: "of a path from a directory that is not known",
    _OTHER_DEVICE: "of a file of another device",
    _AMBIGUOUS: "of an inode number that several subvolumes have",
}


class Mounted(NamedTuple):
    """How the trace saw the image."""

    root: bytes = b"/"  #: the directory of the host at which it was mounted, absolute
    at: bytes = b"/"  #: the directory of the image that was seen there
    device: int | None = None  #: the filesystem's, major << 20 | minor; None for the only one that a trace names
    subvolume: int | None = None  #: to look for inode numbers in; None for all


class Found(NamedTuple):
    """The reads of traces, and what was left out."""

    reads: Reads
    accesses: int  #: all that the traces have
    left_out: dict[str, int]  #: accesses by reason


class _Finder:
    """Finds files of one image by the names that traces give them."""

    def __init__(self, image: Image, rows: FileRows, mounted: Mounted) -> None:
        self._image, self._files = image, rows.files
        self._root = os.path.normpath(mounted.root)
        self._at, self._device, self._subvolume = mounted.at, mounted.device, mounted.subvolume
        self._inodes = self._files.inode.view(np.uint64)

    def find(self, name: Name) -> int:
        """Return the row of the file, or one of the reasons why there is none."""
        if isinstance(name, InodeName):
            return self._by_number(name)
        if not name.startswith(b"/"):
            return _RELATIVE
        path = os.path.normpath(name)
        prefix = self._root if self._root == b"/" else self._root + b"/"
        if not path.startswith(prefix):
            return _ELSEWHERE
        try:
            inode = self._image.open(self._at + b"/" + path[len(prefix) :])
        except CorruptError:
            return _DAMAGED
        except BtrimgError:
            return _NOT_THERE
        return self._row(inode.subvolume.id, inode.ino)

    def _by_number(self, name: InodeName) -> int:
        if not name.is_device:
            return self._row(name.space, name.inode)
        if self._device is not None and name.space != self._device:
            return _OTHER_DEVICE
        if self._subvolume is not None:
            return self._row(self._subvolume, name.inode)
        if not 0 <= name.inode < 1 << 64:
            return _NOT_THERE
        rows = np.flatnonzero(self._inodes == np.uint64(name.inode))
        return int(rows[0]) if len(rows) == 1 else _AMBIGUOUS if len(rows) else _NOT_THERE

    def _row(self, subvolume: int, inode: int) -> int:
        """Return the row of an inode; rows are in order of both."""
        if not (0 <= inode < 1 << 64 and 0 <= subvolume < 1 << 62):
            return _NOT_THERE
        first = int(np.searchsorted(self._files.subvolume, subvolume))
        last = int(np.searchsorted(self._files.subvolume, subvolume, "right"))
        row = first + int(np.searchsorted(self._inodes[first:last], np.uint64(inode)))
        return row if row < last and int(self._inodes[row]) == inode else _NO_FILE


def reads_of(
    image: Image,
    rows: FileRows,
    traces: Sequence[Trace],
    mounted: Mounted,
    *,
    together: bool = False,
    progress: Callable[[int], None] = lambda _accesses: None,
) -> Found:
    """Return the reads of *traces*, one trace after the other, or *together*, as if all had begun at one time.

    Readers of different traces are different ones. Fills count as reads where a trace has no others: its tracepoints
    were those of older kernels, which tell what was brought in, not what was read. Raises TraceError where it is not
    clear which device of a trace is the image.
    """
    parts, left_out = list[Reads](), dict[str, int]()
    total = readers = 0
    for trace in traces:
        accesses = _concatenate([_told(batch, progress) for batch in trace])
        total += len(accesses.kind)
        here = mounted if mounted.device is not None else mounted._replace(device=_only_device(trace.names))
        finder = _Finder(image, rows, here)
        row = np.array([finder.find(name) for name in trace.names] or [0], np.int64)
        reads = _reads(accesses, row, rows.files.size, left_out)
        if together and len(accesses.time):
            reads = reads._replace(time=reads.time - accesses.time[0])
        parts.append(reads._replace(reader=reads.reader + readers))
        readers += int(reads.reader.max(initial=-1)) + 1
    reads = Reads._make(map(np.concatenate, zip(*parts, strict=True)))
    if together:
        reads = reads.take(np.argsort(reads.time, kind="stable"))
    return Found(reads, total, left_out)


def _told(batch: Accesses, progress: Callable[[int], None]) -> Accesses:
    progress(len(batch.kind))
    return batch


def _concatenate(batches: Sequence[Accesses]) -> Accesses:
    nothing = np.empty(0, np.int64)
    return Accesses._make(map(np.concatenate, zip((nothing,) * 5 + (nothing.astype(np.uint8),), *batches, strict=True)))


def _only_device(names: Sequence[Name]) -> int | None:
    """Return the device that a trace is about; raise TraceError where it is about several."""
    devices = sorted({name.space for name in names if isinstance(name, InodeName) and name.is_device})
    if len(devices) > 1:
        listed = ", ".join(f"{device >> 20}:{device & 0xFFFFF}" for device in devices[:8])
        raise TraceError(
            f"the trace is about several devices, {listed}: say with --trace-device which one is the image"
        )
    return devices[0] if devices else None


def _reads(accesses: Accesses, row: Ints, size: Ints, left_out: dict[str, int]) -> Reads:
    """Return the accesses to files, whose rows are *row* by name, as reads of pages below the end of the file."""

    def leave_out(which: np.ndarray, why: str) -> None:
        if count := int(np.count_nonzero(which)):
            left_out[why] = left_out.get(why, 0) + count

    wanted = accesses.kind != WRITE
    leave_out(~wanted, "written, not read")
    if np.isin(accesses.kind, (FILL, WRITE)).all():
        filled = np.zeros(len(wanted), np.bool_)
    else:
        filled = accesses.kind == FILL
    leave_out(filled, "brought in for a read that the trace has as well")
    file = row[accesses.file]
    for reason, why in _WHY.items():
        leave_out(wanted & ~filled & (file == reason), why)
    kept = wanted & ~filled & (file >= 0)
    sizes = np.append(size, 0)  # the last one is that of what is no file
    end = np.minimum(accesses.offset + accesses.length, sizes[np.where(kept, file, -1)])
    beyond = kept & (end <= accesses.offset)
    leave_out(beyond, "beyond the end of the file, or of no bytes")
    kept &= ~beyond
    first, last = accesses.offset[kept] >> PAGE_SHIFT, (end[kept] - 1) >> PAGE_SHIFT
    return Reads(
        time=accesses.time[kept],
        reader=np.unique(accesses.process[kept], return_inverse=True)[1].astype(np.int64),
        file=file[kept],
        page=first,
        pages=last - first + 1,
        mapped=accesses.kind[kept] == FAULT,
    )
