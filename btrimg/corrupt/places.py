"""Where the fields of items, tree blocks and superblocks stand in their bytes, as targets name them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from btrimg.corrupt import leaf
from btrimg.errors import CorruptError, NotFoundError
from btrimg.named import NamedTuple
from btrimg.ondisk.blocks import DiskKey, Header, Item
from btrimg.ondisk.chunks import Chunk
from btrimg.ondisk.constants import SUPERBLOCK_SIZE
from btrimg.ondisk.items import cut_off, parse_item
from btrimg.ondisk.spans import END, Counter, Span, Step, find_span, size_at, sliced
from btrimg.ondisk.superblock import Superblock

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from btrimg.ondisk.blocks import Key
    from btrimg.ondisk.record import Record

_ARRAY = (Step(name="sys_chunk_array"),)
_ARRAY_SIZE = (Step(name="sys_chunk_array_size"),)


class _Part(NamedTuple):
    """A record of a payload."""

    record: type[Record]
    start: int
    size: int


def in_slot(data: bytes, slot: int, steps: Sequence[Step]) -> Span:
    """Return where a field of the slot itself stands in its block: key, offset and size, or the key pointer's."""
    return find_span(leaf.slot_record(data), data, leaf.slot_start(data, slot), steps)


def in_payload(key: Key, payload: bytes, steps: Sequence[Step]) -> Span:
    """Return where a field of an item stands in its payload.

    Without steps it is the whole; ``payload[4:8]`` are bytes of it; ``[1]`` and ``InlineRef[0]`` are records of it; a
    field without a record is that of the first record that has it.
    """
    whole = Span(0, len(payload), None, None, elastic=True)
    if not steps:
        return whole
    if steps[0].name == "payload":
        return _some(whole, steps[1:], "the payload")
    parts = _parts(key, payload)
    chosen, rest = _choose(parts, steps)
    if chosen is None:
        end = parts[-1].start + parts[-1].size if parts else 0
        return Span(end, 0, None, None, elastic=True)
    if not rest:
        return Span(chosen.start, chosen.size, None, chosen.record, elastic=True)
    span = find_span(chosen.record, payload, chosen.start, rest)
    if span.end > len(payload):
        raise NotFoundError(f"the payload ends before, after {len(payload)} bytes")
    return span


def _some(whole: Span, steps: Sequence[Step], what: str) -> Span:
    """Return the bytes of *whole* that the only one of *steps* names; all of them without one."""
    if len(steps) > 1:
        raise NotFoundError(f"bytes of {what} have no parts")
    return sliced(whole, steps[0], what) if steps else whole


def _parts(key: Key, payload: bytes) -> list[_Part]:
    parts, start = [], 0
    value = parse_item(key, payload)
    for record in value.records:
        parts.append(_Part(type(record), start, record.packed_size()))
        start += record.packed_size()
    damaged = cut_off(key, value)
    if damaged:
        parts.append(_Part(damaged, start, size_at(damaged, payload, start)))
    return parts


def _choose(parts: list[_Part], steps: Sequence[Step]) -> tuple[_Part | None, Sequence[Step]]:
    """Return the record that the first steps name, None for the place behind the last, and the steps that are left."""
    first = steps[0]
    if first.at == END and len(steps) == 1:
        return None, ()
    candidates, rest = parts, steps
    if first.name and any(part.record.__name__ == first.name for part in parts):
        candidates, rest = [part for part in parts if part.record.__name__ == first.name], steps[1:]
    if rest and isinstance(rest[0].at, int):
        if -len(candidates) <= rest[0].at < len(candidates):
            return candidates[rest[0].at], rest[1:]
        raise NotFoundError(f"there are {len(candidates)} records, no [{rest[0].at}]")
    if rest is not steps:
        return candidates[0], rest
    for part in candidates:
        if rest[0].name in part.record.names():
            return part, rest
    known = ", ".join(dict.fromkeys(part.record.__name__ for part in parts)) or "nothing but payload"
    raise NotFoundError(f"there is no field {rest[0].name}; the item holds {known}")


def in_block(data: bytes, steps: Sequence[Step]) -> Span:
    """Return where a field of a tree block stands: of ``header``, of ``slots[n]``, or ``bytes[a:b]``."""
    if not steps:
        return Span(0, len(data), None, None)
    first, *rest = steps
    if first.name == "header":
        return find_span(Header, data, 0, rest)
    if first.name == "bytes":
        return _some(in_block(data, ()), rest, "the block")
    if first.name == "slots" and rest and isinstance(rest[0].at, int):
        room = (len(data) - Header.SIZE) // Item.SIZE
        slot = rest[0].at if rest[0].at >= 0 else leaf.count_of(data) + rest[0].at
        if 0 <= slot < room:
            return in_slot(data, slot, rest[1:])
    raise NotFoundError("a tree block has header, slots[n] and bytes[a:b]")


def in_superblock(data: bytes, steps: Sequence[Step]) -> Span:
    """Return where a field of the superblock stands; ``sys_chunks[n]`` has a ``key`` and a ``chunk``."""
    if not steps:
        return Span(0, len(data), None, None)
    if steps[0].name == "bytes":
        return _some(in_superblock(data, ()), steps[1:], "the superblock")
    if steps[0].name == "sys_chunks":
        return _in_system_chunks(data, steps[1:])
    return find_span(Superblock, data, 0, steps)


def system_chunk_places(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield where each entry of a superblock's sys_chunk_array starts, where its chunk does, and where it ends."""
    array = find_span(Superblock, data, 0, _ARRAY)
    size = find_span(Superblock, data, 0, _ARRAY_SIZE)
    used = min(int.from_bytes(data[size.start : size.end], "little"), array.size)
    at = array.start
    while at + DiskKey.SIZE + Chunk.SIZE <= array.start + used:
        chunk = at + DiskKey.SIZE
        end = chunk + size_at(Chunk, data, chunk)
        yield at, chunk, end
        at = end


def _in_system_chunks(data: bytes, steps: Sequence[Step]) -> Span:
    places = list(system_chunk_places(data))
    if not steps or not isinstance(steps[0].at, int) or not -len(places) <= steps[0].at < len(places):
        raise NotFoundError(f"the superblock has {len(places)} system chunks; name one as sys_chunks[0]")
    (start, chunk, end), rest = places[steps[0].at], steps[1:]
    if not rest:
        size = find_span(Superblock, data, 0, _ARRAY_SIZE)
        return Span(start, end - start, None, None, Counter(size.start, "I", 1), elastic=True)
    if rest[0].name == "key":
        return find_span(DiskKey, data, start, rest[1:])
    if rest[0].name == "chunk":
        return find_span(Chunk, data, chunk, rest[1:])
    raise NotFoundError("a system chunk has a key and a chunk")


def with_array_resized(data: bytes) -> bytes:
    """Return a superblock of the right size, after its array of system chunks grew or shrank.

    Raises CorruptError when the array would not hold them.
    """
    more = len(data) - SUPERBLOCK_SIZE
    if not more:
        return data
    end = find_span(Superblock, data, 0, _ARRAY).end + more
    if more < 0:
        return data[:end] + bytes(-more) + data[end:]
    if any(data[end - more : end]):
        raise CorruptError("the system chunks do not fit the superblock")
    return data[: end - more] + data[end:]
