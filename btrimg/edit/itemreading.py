"""What stands in a place of the disk, as the structures that it is declared to be."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from btrimg.corrupt import leaf
from btrimg.corrupt.places import system_chunk_places
from btrimg.errors import BtrimgError, NotFoundError
from btrimg.ondisk.blocks import DiskKey, Header, Key
from btrimg.ondisk.chunks import Chunk
from btrimg.ondisk.items import parse_item
from btrimg.ondisk.spans import Step, parse_path
from btrimg.ondisk.superblock import Superblock

if TYPE_CHECKING:
    from collections.abc import Iterator

    from btrimg.corrupt.finder import Finder
    from btrimg.corrupt.words import Marks, Target
    from btrimg.edit.itemcopies import CopiedItems
    from btrimg.edit.itemwords import Place
    from btrimg.ondisk.record import Record


class Reading(NamedTuple):
    """What stands in a place."""

    target: str  #: its name, by which it can be set
    key: Key | None = None  #: of an item
    size: int | None = None  #: of its payload
    block: int | None = None  #: logical address of the tree block it stands in, None before there is one
    records: tuple[tuple[str, Record], ...] = ()  #: each with what stands before the names of its fields
    tail: bytes = b""  #: what follows them
    fields: tuple[tuple[str, int | bytes], ...] = ()  #: those that were asked for, and nothing else


def readings(place: Place, finder: Finder, copies: CopiedItems | None, marks: Marks) -> Iterator[Reading]:
    """Yield what stands in *place*: of items all whose keys fit, as *copies* has them if it is given.

    Raises NotFoundError when there is nothing, ValueError with a sentence for what makes no sense.
    """
    if place.words or place.target.steps:
        yield from _fields(place, finder, copies, marks)
    elif place.target.kind == "item":
        yield from _items(place.target, finder, copies, marks)
    elif place.target.kind == "block":
        block = finder.block(place.target).logical
        yield _block_reading(block, finder.copy_of(block, marks))
    elif place.target.kind == "super":
        yield _superblock_reading(next(finder.superblocks(marks)).data)
    elif place.target.kind == "cache":
        yield from _fields(place._replace(words=("generation", "crcs[0]", "entries[0].offset")), finder, copies, marks)
    else:
        value = finder.read(place.target, marks)
        yield Reading(place.text, fields=((place.text, value),))


def _items(target: Target, finder: Finder, copies: CopiedItems | None, marks: Marks) -> Iterator[Reading]:
    there = False
    if copies and finder.tree_of(target) is not None:
        for tree, key, payload in copies.matches(target):
            there = True
            yield item_reading(str(tree), key, payload or b"", None)
    else:
        head = target.head if "@" in target.head else _name(finder, target)
        for found in finder.items(target):
            there = True
            data = finder.copy_of(found.way.logical, marks)
            payload = leaf.payload_of(data, found.slot_in(data))
            yield item_reading(head, found.key, payload, found.way.logical)
    if not there:
        raise NotFoundError("there is no such item")


def _name(finder: Finder, target: Target) -> str:
    return str(finder.tree_of(target)) if target.head.startswith("/") else target.head


def item_reading(head: str, key: Key, payload: bytes, block: int | None) -> Reading:
    """Return what an item of the tree *head* holds."""
    value = parse_item(key, payload)
    several = len(value.records) > 1
    records = tuple((f"[{number}]." if several else "", record) for number, record in enumerate(value.records))
    return Reading(f"{head}/{'.'.join(map(str, key))}", key, len(payload), block, records, value.tail)


def _block_reading(logical: int, data: bytes) -> Reading:
    slot = leaf.slot_record(data)
    slots = (
        (f"slots[{number}].", slot.unpack(data, leaf.slot_start(data, number))) for number in range(leaf.count_of(data))
    )
    return Reading(f"block@{logical}", block=logical, records=(("header.", Header.unpack(data)), *slots))


def _superblock_reading(data: bytes) -> Reading:
    records: list[tuple[str, Record]] = [("", Superblock.unpack(data))]
    for number, (start, chunk, end) in enumerate(system_chunk_places(data)):
        records.append((f"sys_chunks[{number}].key.", DiskKey.unpack(data, start)))
        try:
            records.append((f"sys_chunks[{number}].chunk.", Chunk.unpack(data[:end], chunk)))
        except BtrimgError:  # cut off; its bytes can be read still
            continue
    return Reading("super", records=tuple(records))


def _fields(place: Place, finder: Finder, copies: CopiedItems | None, marks: Marks) -> Iterator[Reading]:
    """Yield the fields of the first place that fits."""
    target = place.target
    read = copies.read if copies else finder.read
    values = []
    for word in place.words or ("",):
        steps: tuple[Step, ...] = (*target.steps, *parse_path(word))
        text = place.text + ("." if target.steps else "/") * bool(word) + word
        values.append((text, read(target._replace(steps=steps), marks)))
    yield Reading(place.text, fields=tuple(values))
