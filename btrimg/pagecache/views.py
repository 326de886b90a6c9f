"""Views: whole files as read-only memory, composed of mappings of the image where their extents lie.

Nothing is copied: what a view shows is the page cache of the image file, of which the kernel has one, so that all files
that share an extent, in all processes, show the same page frames. A mount would give each file its own.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from btrimg.errors import CorruptError, NotFoundError, UnsupportedError
from btrimg.filesystem import data
from btrimg.filesystem.extents import file_extents
from btrimg.named import NamedTuple
from btrimg.pagecache.decoded import Decoded
from btrimg.pagecache.sound import SoundCopies
from btrimg.units import GIB, MIB, round_down, round_up
from btrimg.volume.device import Device
from btrimg.volume.mapping import GRAIN, Area, most_mappings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from btrimg.filesystem.extents import FileExtentRow
    from btrimg.filesystem.image import Image
    from btrimg.filesystem.inode import Inode
    from btrimg.pagecache.decoded import Held
    from btrimg.pagecache.sound import Stretch

COPY_MAX = GIB  #: bytes of one view that may be copies, where what is on the device cannot be mapped
_COPY_STEP = 4 * MIB


class _Part(NamedTuple):
    """Bytes of a file and where they can be mapped from."""

    at: int  #: file offset
    length: int
    source: Device | Held
    offset: int  #: on the device, or in the memory

    @property
    def end(self) -> int:
        return self.at + self.length


class Views:
    """Makes views of the files of one image, from any thread; remembers what it has verified."""

    def __init__(self, image: Image) -> None:
        self._image = image
        self._sound, self._decoded = SoundCopies(image), Decoded()

    def view(self, inode: Inode, *, verify: bool = True, mappings: int | None = None) -> memoryview:
        """Return all bytes of a regular file, read-only, as they are in the state that the image was opened in.

        Holes and preallocated space are zeros. What is compressed or inline is decoded into memory, once for all views
        that show it; so is what does not lie at multiples of GRAIN, and the smallest pieces of a file that has more of
        them than a process may have *mappings*. The view, and arrays made of it, may outlive the image.

        With *verify*, every sector is checked, once per extent, as it is when this is called; a sound copy is mapped
        instead of a damaged one. An image that is cut, or written to, while views are in use breaks them: see
        :class:`btrimg.volume.mapping.Area`.

        Raises NotFoundError when *inode* is no regular file, UnsupportedError when a file is too large to be mapped or
        more than COPY_MAX of it would be copied, and for data what :func:`btrimg.filesystem.data.read` raises.
        """
        if not inode.is_regular:
            raise NotFoundError(f"{inode.quoted} is not a regular file")
        size = inode.item.size
        if not size:
            return memoryview(b"")
        area = Area(size)
        pages = round_up(size, GRAIN)
        whole, rest = _aligned(_merged(self._parts(inode, verify=verify)), pages)
        whole, rest = _few_enough(whole, rest, mappings or most_mappings())
        copied = sum(end - start for start, end in rest)
        if copied > COPY_MAX:
            raise UnsupportedError(
                f"{copied} bytes of {inode.quoted} are in pieces that cannot be mapped, more than {COPY_MAX}: read them"
            )
        for start, end in rest:
            whole.append(_Part(start, end - start, self._copy(inode, start, end, verify=verify), 0))
        for part in whole:
            _lay(area, part)
        return memoryview(area)

    def _parts(self, inode: Inode, *, verify: bool) -> Iterator[_Part]:
        """Yield what the bytes of a file are made of, in order; not what reads as zeros, nor what is inline."""
        verify = verify and inode.checksummed
        size = inode.item.size
        for row in file_extents(inode):
            if row.offset >= size:
                return
            if row.kind == "regular":
                yield from self._plain(row, min(row.end, size), verify=verify)
            elif row.kind == "compressed":
                yield self._decompressed(row, verify=verify)
            elif row.kind == "inline":
                held = self._copy(inode, 0, min(GRAIN, round_up(size, GRAIN)), verify=verify)
                yield _Part(0, held.length, held, 0)

    def _plain(self, row: FileExtentRow, end: int, *, verify: bool) -> Iterator[_Part]:
        extent, logical = row.extent, row.logical
        if extent is None or logical is None:
            raise CorruptError(f"the regular row at {row.offset} has no extent")
        name = extent.logical, extent.generation
        length = round_up(end - row.offset, self._image.volume.sectorsize)
        for stretch in self._sound.find(name, logical, length, verify=verify):
            at = row.offset + stretch.logical - logical
            shown = min(stretch.length, row.end - at)  # the item may end inside of a sector, which it must not
            if stretch.device:
                yield _Part(at, shown, stretch.device, stretch.physical)
            else:
                key = ("rebuilt", stretch.logical, stretch.length, extent.generation, verify)
                yield _Part(at, shown, self._decoded.hold(key, partial(self._rebuilt, stretch, verify)), 0)

    def _rebuilt(self, stretch: Stretch, verify: bool) -> Iterator[bytes]:
        for at in range(0, stretch.length, _COPY_STEP):
            length = min(_COPY_STEP, stretch.length - at)
            yield data.read_logical(self._image, stretch.logical + at, length, verify=verify)

    def _decompressed(self, row: FileExtentRow, *, verify: bool) -> _Part:
        extent = row.extent
        if extent is None:
            raise CorruptError(f"the compressed row at {row.offset} has no extent")
        key = ("decompressed", extent.logical, extent.generation, row.compression, extent.ram_bytes, verify)
        whole = row._replace(offset=0, length=extent.ram_bytes, extent=extent._replace(offset=0))

        def make() -> Iterator[bytes]:
            yield data.row_bytes(self._image, whole, 0, extent.ram_bytes, verify=verify)

        return _Part(row.offset, row.length, self._decoded.hold(key, make), extent.offset)

    def _copy(self, inode: Inode, start: int, end: int, *, verify: bool) -> Held:
        """Return bytes of a file that are no pages of an extent, for the views of this file only."""
        state = self._image.superblock.generation
        key = ("copied", inode.subvolume.id, inode.ino, state, start, end, verify)

        def make() -> Iterator[bytes]:
            for at in range(start, end, _COPY_STEP):
                length = min(_COPY_STEP, end - at)
                yield inode.read(at, length, verify=verify).ljust(length, b"\0")

        return self._decoded.hold(key, make)


def _merged(parts: Iterator[_Part]) -> Iterator[_Part]:
    """Yield *parts*, those that follow each other in the file and where they lie as one."""
    last = next(parts, None)
    for part in parts:
        if last and part.source is last.source and part.at == last.end and part.offset == last.offset + last.length:
            last = last._replace(length=last.length + part.length)
        else:
            if last:
                yield last
            last = part
    if last:
        yield last


def _aligned(parts: Iterator[_Part], size: int) -> tuple[list[_Part], list[tuple[int, int]]]:
    """Return of *parts* the whole pages that can be mapped, and the ranges of pages that are left, up to *size*."""
    whole: list[_Part] = []
    rest: list[tuple[int, int]] = []
    for part in parts:
        # The last page of a file counts as whole: what follows its last byte is in no buffer.
        end = size if part.end > size - GRAIN and part.end % GRAIN else min(part.end, size)
        first, last = round_up(part.at, GRAIN), round_down(end, GRAIN)
        if first >= last or (part.offset - part.at) % GRAIN:
            _append(rest, round_down(part.at, GRAIN), round_up(end, GRAIN))
            continue
        if part.at < first:
            _append(rest, first - GRAIN, first)
        whole.append(part._replace(at=first, length=last - first, offset=part.offset + first - part.at))
        if last < end:
            _append(rest, last, last + GRAIN)
    return whole, rest


def _append(ranges: list[tuple[int, int]], start: int, end: int) -> None:
    """Append a range to those before it, which it may touch or overlap."""
    if ranges and start <= ranges[-1][1]:
        ranges[-1] = (ranges[-1][0], max(end, ranges[-1][1]))
    else:
        ranges.append((start, end))


def _few_enough(
    whole: list[_Part], rest: list[tuple[int, int]], limit: int
) -> tuple[list[_Part], list[tuple[int, int]]]:
    """Return parts and ranges that take no more than *limit* mappings, zeros between them included.

    The smallest parts become ranges that are copied, and those side by side become one.
    """
    smallest = GRAIN
    while whole and 2 * (len(whole) + len(rest)) + 1 > limit:
        left = [part for part in whole if part.length > smallest]
        gone = [(part.at, part.end) for part in whole if part.length <= smallest]
        joined: list[tuple[int, int]] = []
        for start, end in sorted([*rest, *gone]):
            _append(joined, start, end)
        whole, rest = left, joined
        smallest *= 2
    return whole, rest


def _lay(area: Area, part: _Part) -> None:
    if isinstance(part.source, Device):
        area.lay(part.at, part.length, part.source, part.offset)
    else:
        area.keep(part.source)
        area.lay_memory(part.at, part.length, part.source.memory.fd, part.source.offset + part.offset)
