"""What stands in two places: system chunks in chunk tree and superblock, and each device's item in its superblock."""

from __future__ import annotations

from typing import TYPE_CHECKING

from btrimg.corrupt.places import system_chunk_places
from btrimg.corrupt.words import Target
from btrimg.ondisk.blocks import DiskKey, Key
from btrimg.ondisk.chunks import Chunk
from btrimg.ondisk.constants import DEV_ITEMS_OBJECTID, FIRST_CHUNK_TREE_OBJECTID, BlockGroup, ItemType
from btrimg.ondisk.spans import Step, find_span
from btrimg.ondisk.superblock import Superblock

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from btrimg.corrupt.words import Edit


def differences(before: Mapping[Key, bytes], after: Mapping[Key, bytes]) -> dict[Key, bytes | None]:
    """Return what to put, or to delete (None), so that *before* becomes *after*."""
    changed: dict[Key, bytes | None] = {key: None for key in before if key not in after}
    return changed | {key: payload for key, payload in after.items() if before.get(key) != payload}


def with_twins(data: bytes, devid: int, changed: Mapping[Key, bytes | None]) -> bytes:
    """Return the superblock of device *devid* with what *changed* in the chunk tree, by key; None was deleted.

    Chunks that are not those of the system stay out of it. Its size changes where the array of system chunks does.
    """
    for key, payload in changed.items():
        if key == (DEV_ITEMS_OBJECTID, ItemType.DEV_ITEM, devid) and payload is not None:
            span = find_span(Superblock, data, 0, (Step(name="dev_item"),))
            data = data[: span.start] + payload[: span.size].ljust(span.size, b"\0") + data[span.end :]
        elif key[:2] == (FIRST_CHUNK_TREE_OBJECTID, ItemType.CHUNK_ITEM):
            data = _with_chunk(data, key, payload)
    return data


def _with_chunk(data: bytes, key: Key, payload: bytes | None) -> bytes:
    """Return a superblock with one system chunk replaced, added behind the others, or (None) taken out."""
    places = list(system_chunk_places(data))
    found = [place for place in places if Key(*DiskKey.unpack(data, place[0])) == key]
    if not found and (payload is None or not _is_system(payload)):
        return data
    array = find_span(Superblock, data, 0, (Step(name="sys_chunk_array"),)).start
    behind = places[-1][2] if places else array
    start, end = (found[0][0], found[0][2]) if found else (behind, behind)
    entry = b"" if payload is None else DiskKey(*key).pack() + payload
    size = find_span(Superblock, data, 0, (Step(name="sys_chunk_array_size"),))
    used = int.from_bytes(data[size.start : size.end], "little") + len(entry) - (end - start)
    counted = data[: size.start] + used.to_bytes(size.size, "little") + data[size.end :]
    return counted[:start] + entry + counted[end:]


def _is_system(payload: bytes) -> bool:
    return len(payload) >= Chunk.SIZE and bool(Chunk.STRUCT.unpack_from(payload)[3] & BlockGroup.SYSTEM)


def edits_of_twins(edit: Edit, data: bytes, devids: Iterable[int]) -> Iterator[Edit]:
    """Yield the edits of the chunk tree that say the same as *edit* of the superblock *data*, as it is before that.

    To take an entry out of the array, or to put one in, is said of the array alone.
    """
    name, *rest = edit.target.steps or (Step(),)
    if name.name == "dev_item":
        for devid in devids:
            yield _of_item(edit, Key(DEV_ITEMS_OBJECTID, ItemType.DEV_ITEM, devid), rest)
    places = list(system_chunk_places(data))
    if name.name != "sys_chunks" or len(rest) < 2 or not isinstance(rest[0].at, int):
        return
    if -len(places) <= rest[0].at < len(places):
        key = Key(*DiskKey.unpack(data, places[rest[0].at][0]))
        if rest[1].name == "chunk":
            yield _of_item(edit, key, rest[2:])
        elif rest[1].name == "key":
            yield _of_item(edit, key, [Step(name="slot"), *rest[1:]])


def _of_item(edit: Edit, key: Key, steps: Iterable[Step]) -> Edit:
    words = ".".join(map(str, key))
    return edit._replace(target=Target("item", "chunk", words, tuple(steps)))
