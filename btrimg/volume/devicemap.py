"""The inverse of the chunk map: what each byte of a device is for."""

from __future__ import annotations

from bisect import bisect_right

from btrimg.named import NamedTuple
from btrimg.ondisk.constants import STRIPE_LEN, SUPERBLOCK_OFFSETS, SUPERBLOCK_SIZE
from btrimg.units import MIB

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from btrimg.volume.chunkmap import MappedChunk

RESERVED = MIB  #: bytes at the start of a device that no chunk takes (BTRFS_DEVICE_RANGE_RESERVED)
_END = 1 << 64


class DevicePiece(NamedTuple):
    """Bytes of one device that are side by side and serve one purpose."""

    devid: int
    physical: int
    length: int  #: bytes, at least 1
    kind: str  #: superblock, mapped, parity, reserved or unallocated
    chunk: MappedChunk | None = None  #: of mapped bytes and parity
    logical: int | None = None  #: of the first byte; for parity, of the first byte of its row
    number: int = 0  #: of the copy; for parity, 0 for P and 1 for Q


class Footprint(NamedTuple):
    """The part of a device that a stripe takes."""

    start: int  #: physical
    end: int
    chunk: MappedChunk
    stripe: int  #: its number in the chunk


class Span(NamedTuple):
    """Bytes of one device that are side by side and serve one purpose, or belong to one stripe."""

    start: int  #: physical
    end: int
    kind: str  #: superblock, reserved or unallocated; "mapped" for what a stripe holds
    footprint: Footprint | None = None  #: of the stripe


class DeviceMap:
    """What the bytes of every device are for; of missing devices too, as long as a chunk names them.

    Where stripes overlap on a device, which only a damaged image has, the one that starts first keeps the bytes and
    *warn* hears of it.
    """

    def __init__(self, chunks: Iterable[MappedChunk], warn: Callable[[str], None]) -> None:
        by_device: dict[int, list[Footprint]] = {}
        for chunk in chunks:
            for index, stripe in enumerate(chunk.stripes):
                footprint = Footprint(stripe.offset, stripe.offset + chunk.stripe_length, chunk, index)
                by_device.setdefault(stripe.devid, []).append(footprint)
        self._stripes = {devid: list(_disjoint(devid, found, warn)) for devid, found in by_device.items()}
        self._starts = {devid: [each.start for each in stripes] for devid, stripes in self._stripes.items()}

    def knows(self, devid: int) -> bool:
        """Return whether a chunk has a stripe on that device."""
        return devid in self._stripes

    def spans(self, devid: int, start: int, end: int) -> Iterator[Span]:
        """Yield what bytes [start, end) of a device belong to, in order and without gaps."""
        while start < end:
            span = self._span(devid, start)
            yield span._replace(end=min(span.end, end))
            start = span.end

    def pieces(self, devid: int, start: int, end: int) -> Iterator[DevicePiece]:
        """Yield what bytes [start, end) of a device are for, in order and without gaps; the caller bounds *end*."""
        for span in self.spans(devid, start, end):
            if span.footprint is None:
                yield DevicePiece(devid, span.start, span.end - span.start, span.kind)
                continue
            at = span.start
            while at < span.end:
                piece = _piece_of(span.footprint, devid, at, span.end)
                yield piece
                at += piece.length

    def _span(self, devid: int, at: int) -> Span:
        for offset in SUPERBLOCK_OFFSETS:
            if offset <= at < offset + SUPERBLOCK_SIZE:
                return Span(at, offset + SUPERBLOCK_SIZE, "superblock")
        end = min((offset for offset in SUPERBLOCK_OFFSETS if offset > at), default=_END)
        stripes = self._stripes.get(devid, [])
        following = bisect_right(self._starts.get(devid, []), at)
        if following and at < stripes[following - 1].end:
            return Span(at, min(end, stripes[following - 1].end), "mapped", stripes[following - 1])
        if following < len(stripes):
            end = min(end, stripes[following].start)
        if at < RESERVED:
            return Span(at, min(end, RESERVED), "reserved")
        return Span(at, end, "unallocated")


def _disjoint(devid: int, stripes: list[Footprint], warn: Callable[[str], None]) -> Iterator[Footprint]:
    end = 0
    for each in sorted(stripes, key=lambda each: (each.start, each.end)):
        if each.start < end:
            warn(f"device {devid}: chunk {each.chunk.logical} at {each.start} overlaps another, which ends at {end}")
        if each.end > max(each.start, end):
            yield each._replace(start=max(each.start, end))
        end = max(end, each.end)


def _piece_of(footprint: Footprint, devid: int, at: int, end: int) -> DevicePiece:
    chunk = footprint.chunk
    held = chunk.held(footprint.stripe, at - chunk.stripes[footprint.stripe].offset)
    length = min(held.length, end - at)
    if held.logical is None:
        return DevicePiece(devid, at, length, "unallocated")
    return DevicePiece(devid, at, length, "parity" if held.parity else "mapped", chunk, held.logical, held.number)


def superblock_ranges(chunk: MappedChunk) -> Iterator[tuple[int, int]]:
    """Yield the (logical, length) in *chunk* that nothing may be put into, for superblocks lie there.

    Elements of a row, or whole rows where there is parity; and the first 64 KiB of all addresses. Two may overlap. As
    fs/btrfs/block-group.c ``exclude_super_stripes``.
    """
    if chunk.logical < STRIPE_LEN:
        yield chunk.logical, min(STRIPE_LEN, chunk.end) - chunk.logical
    row_length = chunk.columns * STRIPE_LEN
    for number, stripe in enumerate(chunk.stripes):
        for place in SUPERBLOCK_OFFSETS:
            row = (place - stripe.offset) // STRIPE_LEN
            if not 0 <= row * STRIPE_LEN < chunk.stripe_length:
                continue
            held = chunk.held(number, row * STRIPE_LEN)
            if chunk.profile.parity:
                yield chunk.logical + row * row_length, row_length
            elif held.logical is not None:
                yield held.logical, STRIPE_LEN
