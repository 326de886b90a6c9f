"""What all bytes of a device are for, as columns: :mod:`devicemap` for the bulk path."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from btrimg.named import NamedTuple
from btrimg.ondisk.constants import STRIPE_LEN
from btrimg.volume.profiles import data_columns, position_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

    from btrimg.volume.devicemap import DeviceMap, Footprint, Span

    Ints = NDArray[np.int64]

KINDS = ("superblock", "mapped", "parity", "reserved", "unallocated")
_MAPPED, _PARITY, _UNALLOCATED = map(KINDS.index, ("mapped", "parity", "unallocated"))

BATCH_ROWS = 1 << 16  #: pieces in one batch; a raid0 of 1 TiB has 16 million
NOWHERE = -1  #: for a number where there is none


class Pieces(NamedTuple):
    """Pieces of one device, side by side, each of one purpose; columns of one length."""

    physical: Ints
    length: Ints  #: bytes, at least 1
    kind: NDArray[np.uint8]  #: index into KINDS
    chunk: Ints  #: logical start of the chunk of mapped bytes and parity, else NOWHERE
    logical: Ints  #: of the first byte; for parity, of the first byte of its row; else NOWHERE
    number: NDArray[np.uint8]  #: of the copy; for parity, 0 for P and 1 for Q


def pieces_of(devices: DeviceMap, devid: int, size: int) -> Iterator[Pieces]:
    """Yield what the first *size* bytes of a device are for, as ``DeviceMap.pieces`` does, in batches."""
    waiting: list[Pieces] = []
    for part in _parts(devices.spans(devid, 0, size)):
        if sum(len(each.kind) for each in waiting) + len(part.kind) > BATCH_ROWS:
            yield _joined(waiting)
            waiting = []
        waiting.append(part)
    if waiting:
        yield _joined(waiting)


def _parts(spans: Iterable[Span]) -> Iterator[Pieces]:
    for span in spans:
        at = span.footprint
        if at is None:
            yield _one(span, NOWHERE, NOWHERE, 0)
        elif not at.chunk.striped:
            logical = at.chunk.logical + span.start - at.chunk.stripes[at.stripe].offset
            yield _one(span, at.chunk.logical, logical, at.stripe)
        else:
            yield from _elements(span.start, span.end, at)


def _one(span: Span, chunk: int, logical: int, number: int) -> Pieces:
    length, kind = span.end - span.start, KINDS.index(span.kind)
    columns = [np.array([value], np.int64) for value in (span.start, length, kind, chunk, logical, number)]
    return _typed(*columns)


def _elements(start: int, end: int, at: Footprint) -> Iterator[Pieces]:
    """Yield the elements, or parts of them, that a stripe has in [start, end) of its device."""
    base = at.chunk.stripes[at.stripe].offset
    first, stop = (start - base) // STRIPE_LEN, -((base - end) // STRIPE_LEN)
    for row in range(first, stop, BATCH_ROWS // 2):  # each may fall in two, at the end of the chunk
        rows = np.arange(row, min(row + BATCH_ROWS // 2, stop))
        begins = np.maximum(rows * STRIPE_LEN, start - base)
        yield _held(at, rows, begins, np.minimum((rows + 1) * STRIPE_LEN, end - base))


def _held(at: Footprint, row: Ints, begin: Ints, end: Ints) -> Pieces:
    """Return what bytes [begin, end) of a stripe hold, each in the element of one *row*; see MappedChunk.held."""
    chunk = at.chunk
    columns = data_columns(len(chunk.stripes), chunk.profile)
    column, number = np.divmod(position_of(row, at.stripe, len(chunk.stripes), chunk.profile), chunk.profile.copies)
    parity = column >= columns
    within = np.where(parity, 0, column * STRIPE_LEN + begin % STRIPE_LEN)
    offset = (row * columns * STRIPE_LEN + within).view(np.uint64)  # a chunk may end near 2**63, and its row behind
    left = np.maximum(np.uint64(chunk.length) - np.minimum(offset, np.uint64(chunk.length)), 0).view(np.int64)
    held = np.where(parity, end - begin, np.minimum(end - begin, left))
    kind = np.where(parity, _PARITY, np.where(held > 0, _MAPPED, _UNALLOCATED))
    mapped = held > 0
    physical = chunk.stripes[at.stripe].offset + begin
    pieces = _typed(
        physical,
        np.where(mapped, held, end - begin),
        kind,
        np.where(mapped, chunk.logical, NOWHERE),
        np.where(mapped, chunk.logical + offset.view(np.int64), NOWHERE),
        np.where(parity, column - columns, np.where(mapped, number, 0)),
    )
    cut = np.flatnonzero(mapped & (held < end - begin))  # where the chunk ends within an element
    if not len(cut):
        return pieces
    lost = np.full(len(cut), NOWHERE)
    rest = _typed(
        (physical + held)[cut], (end - begin - held)[cut], np.full(len(cut), _UNALLOCATED), lost, lost, lost * 0
    )
    order = np.argsort(np.append(pieces.physical, rest.physical))
    return Pieces._make(column[order] for column in _joined([pieces, rest]))


def _typed(physical: Ints, length: Ints, kind: Ints, chunk: Ints, logical: Ints, number: Ints) -> Pieces:
    return Pieces(physical, length, kind.astype(np.uint8), chunk, logical, number.astype(np.uint8))


def _joined(parts: list[Pieces]) -> Pieces:
    return Pieces._make(np.concatenate(column) for column in zip(*parts, strict=True))


def pieces_at(devices: DeviceMap, devid: int, physical: Ints) -> Pieces:
    """Return what the bytes *physical* of a device are for, each as a piece of 1 byte; they are 0 or more."""
    same = np.ones_like(physical)
    found = _typed(physical.copy(), same, same * 0, same * NOWHERE, same * NOWHERE, same * 0)
    order = np.argsort(physical, kind="stable")
    ordered = physical[order]
    begin = 0
    while begin < len(ordered):
        span = next(devices.spans(devid, int(ordered[begin]), int(ordered[-1]) + 1))
        end = int(np.searchsorted(ordered, span.end, "left"))
        here, at = order[begin:end], span.footprint
        if at is None:
            found.kind[here] = KINDS.index(span.kind)
        else:
            within = ordered[begin:end] - at.chunk.stripes[at.stripe].offset
            if at.chunk.striped:
                part = _held(at, within // STRIPE_LEN, within, within + 1)
            else:
                same = np.ones_like(within)
                part = _typed(
                    *(ordered[begin:end], same, same * _MAPPED, same * at.chunk.logical),
                    *(at.chunk.logical + within, same * at.stripe),
                )
            columns: Iterable[tuple[NDArray[Any], NDArray[Any]]] = zip(found, part, strict=True)
            for column, values in columns:
                column[here] = values
        begin = end
    return found
