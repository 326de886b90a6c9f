"""A tree block as bytes: its slots and payloads, taken apart and put together as they are asked to be.

Nothing here asks whether what comes out makes sense; only what cannot be written is refused, as CorruptError.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from contextlib import suppress
from typing import TYPE_CHECKING

from btrimg.errors import CorruptError
from btrimg.named import NamedTuple
from btrimg.ondisk.blocks import DiskKey, Header, Item, Key, KeyPtr

if TYPE_CHECKING:
    from collections.abc import Sequence

    from btrimg.ondisk.record import Record

_BYTENR, _NRITEMS, _LEVEL = slice(48, 56), slice(96, 100), 100  # in the header


class Entry(NamedTuple):
    """An item of a leaf."""

    key: Key
    payload: bytes


def level_of(data: bytes) -> int:
    """Return the level that a block claims."""
    return data[_LEVEL]


def slot_record(data: bytes) -> type[Record]:
    """Return the structure of the slots of a block."""
    return KeyPtr if level_of(data) else Item


def slot_start(data: bytes, slot: int) -> int:
    """Return where *slot* stands."""
    return Header.SIZE + slot * slot_record(data).SIZE


def count_of(data: bytes) -> int:
    """Return the number of slots, at most as many as there is room for."""
    room = (len(data) - Header.SIZE) // slot_record(data).SIZE
    return min(int.from_bytes(data[_NRITEMS], "little"), room)


def keys_of(data: bytes) -> list[Key]:
    """Return the keys of all slots, in their order on disk."""
    return [Key(*DiskKey.unpack(data, slot_start(data, slot))) for slot in range(count_of(data))]


def payload_start(data: bytes, slot: int) -> tuple[int, int]:
    """Return where the payload of a leaf's *slot* starts, and its size.

    Raises CorruptError when the slot points outside the block.
    """
    item = Item.unpack(data, slot_start(data, slot))
    start = Header.SIZE + item.offset
    if start + item.size > len(data):
        raise CorruptError(f"slot {slot} points outside its leaf")
    return start, item.size


def payload_of(data: bytes, slot: int) -> bytes:
    """Return the payload of a leaf's *slot*."""
    start, size = payload_start(data, slot)
    return data[start : start + size]


def entries_of(data: bytes) -> list[Entry]:
    """Return all items of a leaf, in the order of its slots."""
    return [Entry(key, payload_of(data, slot)) for slot, key in enumerate(keys_of(data))]


def readable(data: bytes) -> dict[Key, bytes]:
    """Return the payloads, by key, of the slots that point into the leaf."""
    found = {}
    for slot, key in enumerate(keys_of(data)):
        with suppress(CorruptError):
            found[key] = payload_of(data, slot)
    return found


def pack_leaf(data: bytes, entries: Sequence[Entry]) -> bytes:
    """Return the leaf *data* with other *entries*, their payloads packed from its end, zeros between.

    Raises CorruptError when they do not fit.
    """
    offset = len(data) - Header.SIZE
    slots: list[bytes] = []
    for entry in entries:
        offset -= len(entry.payload)
        slots.append(Item(DiskKey(*entry.key), max(offset, 0), len(entry.payload)).pack())
    head = data[: Header.SIZE] + b"".join(slots)
    tail = b"".join(entry.payload for entry in reversed(entries))
    gap = len(data) - len(head) - len(tail)
    if gap < 0:
        raise CorruptError(
            f"the items do not fit their leaf: they take {-gap} bytes more than the {len(data)} there are"
        )
    return with_count(head + bytes(gap) + tail, len(slots))


def with_address(data: bytes, logical: int) -> bytes:
    """Return the block with another address in its header."""
    return data[: _BYTENR.start] + logical.to_bytes(8, "little") + data[_BYTENR.stop :]


def with_count(data: bytes, count: int) -> bytes:
    """Return the block with another number of slots in its header."""
    return data[: _NRITEMS.start] + count.to_bytes(4, "little") + data[_NRITEMS.stop :]


def with_payload(data: bytes, slot: int, payload: bytes) -> bytes:
    """Return the leaf with another *payload* of a slot; all else stays where it is if its size does."""
    start, size = payload_start(data, slot)
    if size == len(payload):
        return data[:start] + payload + data[start + size :]
    entries = entries_of(data)
    entries[slot] = entries[slot]._replace(payload=payload)
    return pack_leaf(data, entries)


def with_item(data: bytes, key: Key, payload: bytes) -> bytes:
    """Return the leaf with an item more, before the first one of a greater key."""
    entries = entries_of(data)
    entries.insert(bisect_left([entry.key for entry in entries], key), Entry(key, payload))
    return pack_leaf(data, entries)


def without_slot(data: bytes, slot: int, *, may_be_empty: bool = False) -> bytes:
    """Return the block without a slot; raise CorruptError when it is the only one, unless it *may_be_empty*."""
    count = count_of(data)
    if count <= 1 and not may_be_empty:
        raise CorruptError("it is the only one of its block, which would be left empty")
    if not level_of(data):
        entries = entries_of(data)
        del entries[slot]
        return pack_leaf(data, entries)
    start, end = slot_start(data, slot), slot_start(data, count)
    rest = data[start + KeyPtr.SIZE : end] + bytes(KeyPtr.SIZE)
    return with_count(data[:start] + rest + data[end:], count - 1)


def shifted(data: bytes, slot: int, by: int) -> bytes:
    """Return the leaf with the payloads of *slot* and all after it moved *by* bytes towards the slots: a gap behind.

    Raises CorruptError when there is no room.
    """
    count = count_of(data)
    bounds = [payload_start(data, number) for number in range(slot, count)]
    first, last = min(start for start, _ in bounds), max(start + size for start, size in bounds)
    if first - by < slot_start(data, count) or last - by > len(data):
        raise CorruptError(f"there is no room to move payloads by {by} bytes")
    out = bytearray(data)
    out[first:last] = bytes(last - first)
    out[first - by : last - by] = data[first:last]
    for number in range(slot, count):
        item = Item.unpack(data, slot_start(data, number))
        at = slot_start(data, number)
        out[at : at + Item.SIZE] = item.replace(offset=item.offset - by).pack()
    return bytes(out)


def in_order(data: bytes) -> bytes:
    """Return the leaf with its items in the order of their keys."""
    return pack_leaf(data, sorted(entries_of(data)))


def slot_for(data: bytes, key: Key) -> int:
    """Return the slot of a node under which *key* stands, or would."""
    return max(bisect_right(keys_of(data), key) - 1, 0)
