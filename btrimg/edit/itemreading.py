"""What stands in a place of the disk, as the structures that it is declared to be."""

from __future__ import annotations

from typing import TYPE_CHECKING

from btrimg.corrupt import leaf
from btrimg.corrupt.places import system_chunk_places
from btrimg.corrupt.told import Reading
from btrimg.errors import BtrimgError, NotFoundError
from btrimg.ondisk.blocks import DiskKey, Header, Key
from btrimg.ondisk.chunks import Chunk
from btrimg.ondisk.items import parse_item
from btrimg.ondisk.keynames import key_words
from btrimg.ondisk.spans import Step, parse_path
from btrimg.ondisk.superblock import Superblock

if TYPE_CHECKING:
    from collections.abc import Iterator

    from btrimg.corrupt.finder import Finder
    from btrimg.corrupt.words import Marks, Target
    from btrimg.edit.itemcopies import CopiedItems
    from btrimg.edit.itemwords import Place
    from btrimg.ondisk.record import Record


def readings(place: Place, finder: Finder, copies: CopiedItems | None, marks: Marks) -> Iterator[Reading]:
    """Yield what stands in *place*: of items all whose keys fit, as *copies* has them if it is given.

    Raises NotFoundError when there is nothing, ValueError with a sentence for what makes no sense.
    """
    kind, several = place.target.kind, _wholes(place.target, finder, copies, marks)
    if place.words or place.target.steps or kind not in ("item", "block", "super"):
        whole = next(several, Reading(place.text))
        yield whole._replace(fields=tuple(_fields(place, finder, copies, marks)))
        return
    yield from several


def _wholes(target: Target, finder: Finder, copies: CopiedItems | None, marks: Marks) -> Iterator[Reading]:
    if target.kind == "item":
        yield from _items(target, finder, copies, marks)
    elif target.kind == "block":
        block = finder.block(target).logical
        yield _block_reading(block, finder.copy_of(block, marks))
    elif target.kind == "super":
        yield _superblock_reading(next(finder.superblocks(marks)).data)


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
    return Reading(f"{head}/{key_words(key)}", key, len(payload), block, records, value.tail)


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


def _fields(
    place: Place, finder: Finder, copies: CopiedItems | None, marks: Marks
) -> Iterator[tuple[str, int | bytes]]:
    """Yield the fields that are asked for, of the first place that fits."""
    target, read = place.target, copies.read if copies else finder.read
    for word in place.words or ("",):
        steps: tuple[Step, ...] = (*target.steps, *parse_path(word))
        name = ".".join(filter(None, (place.path, word))) or place.text
        yield name, read(target._replace(steps=steps), marks)
