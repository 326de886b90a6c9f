"""New items, of the fields that are said of them; all others are zero."""

from __future__ import annotations

from typing import TYPE_CHECKING

from btrimg.corrupt.assign import Assignment
from btrimg.corrupt.engine import changed_payload
from btrimg.errors import BtrimgError
from btrimg.ondisk.constants import FileExtentType, ItemType
from btrimg.ondisk.extents import FileExtent
from btrimg.ondisk.items import INLINE_REFS, kind_of, parse_item

if TYPE_CHECKING:
    from collections.abc import Sequence

    from btrimg.corrupt.values import Values
    from btrimg.corrupt.words import Edit
    from btrimg.ondisk.blocks import Key
    from btrimg.ondisk.record import Record

_WHOLE = ("payload",)


def new_payload(key: Key, edits: Sequence[Edit], values: Values) -> bytes:
    """Return the payload of a new item at *key* with the fields that *edits* say.

    Structures begin as zeros, of the kind that has the fields; one that is named, as ``InlineDataRef[0].count=1``, is
    added behind the others. Raises BtrimgError or ValueError for what cannot be said of such an item.
    """
    payload = _blank(key, [edit.target.names[0] for edit in edits if edit.target.names])
    for edit in edits:
        if edit.operator:
            raise BtrimgError(f"{edit.text!a}: the item is new, there is nothing to count from; write FIELD=VALUE")
        payload = _with_named(key, payload, edit)
        payload = changed_payload(key, payload, edit, Assignment(edit, values))
    return payload


def _blank(key: Key, names: Sequence[str]) -> bytes:
    """Return zeros for the structure that such an item begins with; of several kinds for the first that has *names*."""
    kind = kind_of(key.type)
    if not names or names[0] in _WHOLE or not kind.records:
        return b""
    if key.type == ItemType.VERITY_DESC_ITEM and key.offset:
        return b""
    if kind.records[0] in INLINE_REFS.values():
        return b""
    heads = kind.records[:1] if key.type in (ItemType.EXTENT_ITEM, ItemType.METADATA_ITEM) else kind.records
    fitting = [record for record in heads if set(names) <= {*record.names(), record.__name__}]
    return _zeros((fitting or list(heads))[0])


def _zeros(record: type[Record]) -> bytes:
    """Return *record* as zeros, but for the type by which its kind is known."""
    if record is FileExtent:
        return FileExtent.patch(bytes(FileExtent.SIZE), type=FileExtentType.REGULAR)
    types = [number for number, each in INLINE_REFS.items() if each is record]
    if types:
        return bytes([types[0]]) + bytes(record.SIZE - 1)
    return bytes(record.SIZE)


def _with_named(key: Key, payload: bytes, edit: Edit) -> bytes:
    """Return *payload* with a record more behind the others, if *edit* names one by its class that is not there."""
    first = edit.target.names[:1]
    named = [record for record in kind_of(key.type).records if (record.__name__,) == first]
    if not named:
        return payload
    value = parse_item(key, payload)
    there = sum(type(record) is named[0] for record in value.records)
    index = edit.target.steps[1].at if len(edit.target.steps) > 1 else 0
    return payload + _zeros(named[0]) if index == there and not value.tail else payload
