"""Records, tree blocks and roots as JSON objects; field names are those on disk and never change."""

from __future__ import annotations

from btrimg.errors import BlockError, CorruptError
from btrimg.ondisk.blocks import KEY_MAX, KEY_MIN, Key
from btrimg.ondisk.items import parse
from btrimg.ondisk.record import Record
from btrimg.render.answers import name as text_of
from btrimg.render.names import type_name
from btrimg.trees.salvage import fault_of, slots_between
from btrimg.volume.superblocks import uuid_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from btrimg.ondisk.blocks import DiskKey
    from btrimg.trees.block import Block, Pointer

HIDDEN = "HIDDEN"


def record_object(record: Record, *, hide_names: bool = False) -> dict[str, Any]:
    """Return a record's fields by name: raw integers, uuids as uuids, names as text, other bytes in hexadecimal.

    With *hide_names* names, values of xattrs and inline data are replaced.
    """
    fields = zip((*record.FIELDS, *record.TAIL), record, strict=True)
    return {name: _field(name, code, value, hide_names) for (name, code), value in fields}


def _field(name: str, code: str, value: object, hide_names: bool) -> object:
    if isinstance(value, Record):
        return record_object(value, hide_names=hide_names)
    if isinstance(value, tuple):
        return [_field(name, "", element, hide_names) for element in value]
    if not isinstance(value, bytes):
        return value
    if hide_names and name in ("name", "data"):
        return HIDDEN
    if name == "name":
        return text_of(value)
    return uuid_text(value) if code == "16s" else value.hex()


def key_object(key: Key | DiskKey) -> dict[str, int]:
    """Return a key as an object."""
    objectid, key_type, offset = key
    return {"objectid": objectid, "type": key_type, "offset": offset}


def block_object(
    at: Pointer,
    found: Block | BlockError,
    root: Key | None,
    first: Key = KEY_MIN,
    last: Key = KEY_MAX,
    *,
    hide_names: bool = False,
) -> dict[str, Any]:
    """Return a tree block, read by *at* from the tree whose root item stands at *root*, as an object.

    Of its items or pointers, those with first <= key <= last.
    """
    head: dict[str, Any] = {
        "block": at.logical,
        "tree": at.owner,
        "root": key_object(root) if root else None,
        "fault": fault_of(found),
        "header": None,
        "pointers": None,
        "items": None,
    }
    if isinstance(found, BlockError):
        return head
    head["header"] = record_object(found.header)
    slots = slots_between(found, first, last)
    if found.header.level:
        head["pointers"] = [_pointer_object(found, slot) for slot in slots]
    else:
        head["items"] = [_item_object(found, slot, hide_names) for slot in slots]
    return head


def _pointer_object(node: Block, slot: int) -> dict[str, Any]:
    *_, blockptr, generation = node.slots[slot]
    return {"slot": slot, "key": key_object(node.key(slot)), "blockptr": blockptr, "generation": generation}


def _item_object(leaf: Block, slot: int, hide_names: bool) -> dict[str, Any]:
    key = leaf.key(slot)
    *_, offset, size = leaf.slots[slot]
    item: dict[str, Any] = {
        "slot": slot,
        "key": key_object(key),
        "type": type_name(key.type, key.objectid),
        "offset": offset,
        "size": size,
        "records": None,
        "tail": None,
    }
    try:
        value = parse(key.type, leaf.payload(slot))
    except CorruptError:
        return item
    item["records"] = [
        {"record": type(record).__name__, **record_object(record, hide_names=hide_names)} for record in value.records
    ]
    item["tail"] = HIDDEN if hide_names and value.tail else value.tail.hex()
    return item


def root_object(tree_id: int, root: Key | None, at: Pointer) -> dict[str, Any]:
    """Return what ``--roots`` says of a tree whose root block is *at*."""
    return {"tree": tree_id, "root": key_object(root) if root else None, "bytenr": at.logical, "level": at.level}
