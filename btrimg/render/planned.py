"""What an edit would write, for a dry run: every range of the devices, and the fields in it before and after."""

from __future__ import annotations

from btrimg.errors import CorruptError
from btrimg.named import NamedTuple
from btrimg.ondisk.blocks import Header, Item
from btrimg.ondisk.constants import SUPERBLOCK_OFFSETS, SUPERBLOCK_SIZE, BlockGroup
from btrimg.ondisk.items import parse_item
from btrimg.ondisk.keynames import key_words
from btrimg.ondisk.superblock import Superblock
from btrimg.render.answers import json_line
from btrimg.render.dump_json import key_object
from btrimg.render.itemrows import Row, json_value, rows, value_text
from btrimg.render.meanings import meaning
from btrimg.render.names import objectid_name
from btrimg.trees.block import Block
from btrimg.volume.devicemap import DeviceMap

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from typing import Any

    from btrimg.ondisk.blocks import Key
    from btrimg.ondisk.record import Record
    from btrimg.volume.devicemap import DevicePiece
    from btrimg.volume.staged import StagedDevice
    from btrimg.volume.volume import Volume

    Change = tuple[int, Key, bytes | None, bytes | None]  # of an item: tree, key, payload before and after

_TREE_BLOCKS = BlockGroup.METADATA | BlockGroup.SYSTEM
_SHOWN = ("superblock", "tree-block")
_LONG = 120  # characters of a value


class FieldChange(NamedTuple):
    """A field; None is for one that is not there."""

    path: str
    before: Row | None
    after: Row | None


class PlannedWrite(NamedTuple):
    """Bytes that would be written side by side."""

    devid: int
    physical: int
    length: int
    kind: str  #: superblock, tree-block, data, parity, reserved or unallocated
    logical: int | None
    what: str  #: of a tree block: whose it is
    fields: tuple[FieldChange, ...]
    items: tuple[Change, ...]  #: of a leaf that is changed where it stands


def planned_writes(volume: Volume, devices: Mapping[int, StagedDevice]) -> Iterator[PlannedWrite]:
    """Yield what waits to be written to *devices*, structure by structure; *volume* is as it would be after that.

    Of a superblock or a tree block of which some bytes change, all of it is shown.
    """
    places = DeviceMap(volume.chunk_map, volume.warn)
    for devid, device in devices.items():
        shown = 0  # end of the last structure
        for start, end in device.layer.ranges():
            for place in places.pieces(devid, start, end):
                for write in _structures(place, volume.nodesize):
                    if write.physical >= shown or write.kind == "data":
                        shown = write.physical + write.length
                        yield _explained(write, device) if write.kind in _SHOWN else write


def _structures(place: DevicePiece, nodesize: int) -> Iterator[PlannedWrite]:
    """Yield a write for every structure that a piece of a device is part of, whole."""
    kind = place.kind
    if kind == "mapped" and place.chunk is not None:
        kind = "tree-block" if place.chunk.type & _TREE_BLOCKS else "data"
    bare = PlannedWrite(place.devid, place.physical, place.length, kind, place.logical, "", (), ())
    if kind == "superblock":
        offset = next(at for at in SUPERBLOCK_OFFSETS if at <= place.physical < at + SUPERBLOCK_SIZE)
        yield bare._replace(physical=offset, length=SUPERBLOCK_SIZE)
    elif kind == "tree-block" and place.logical is not None:
        for logical in range(place.logical - place.logical % nodesize, place.logical + place.length, nodesize):
            yield bare._replace(physical=place.physical + logical - place.logical, length=nodesize, logical=logical)
    else:
        yield bare


def _explained(write: PlannedWrite, device: StagedDevice) -> PlannedWrite:
    """Return *write* with what changes in it."""
    if write.physical + write.length > device.size:
        return write
    old, new = device.pread_below(write.length, write.physical), device.pread(write.length, write.physical)
    return _write(write, old, new)


def _write(write: PlannedWrite, old: bytes, new: bytes) -> PlannedWrite:
    if write.kind == "superblock":
        return write._replace(fields=tuple(_differences(Superblock.unpack(old), Superblock.unpack(new))))
    header, was = Header.unpack(new), Header.unpack(old)
    if header.bytenr != write.logical:
        return write._replace(fields=tuple(_differences(was, header)))
    kind = f"node of level {header.level}" if header.level else "leaf"
    what = f"{kind} of tree {objectid_name(header.owner)}, {header.nritems} items, generation {header.generation}"
    if was.bytenr != write.logical:
        return write._replace(what=f"{what}; none stands there now")
    return write._replace(
        what=what, fields=tuple(_differences(was, header)), items=tuple(_items_in_place(was, old, header, new))
    )


def _items_in_place(was: Header, old: bytes, header: Header, new: bytes) -> Iterator[Change]:
    """Yield the items that a leaf which is changed where it stands has otherwise."""
    most = (len(new) - Header.SIZE) // Item.SIZE
    leaves = header.generation == was.generation and not was.level and not header.level
    if leaves and max(was.nritems, header.nritems) <= most:
        yield from _item_changes(header.owner, _leaf(was, old), _leaf(header, new))


def _leaf(header: Header, data: bytes) -> dict[Key, bytes]:
    try:
        return dict(zip(*Block(header, data).items(), strict=True))
    except CorruptError:
        return {}


def _item_changes(tree: int, before: dict[Key, bytes], after: dict[Key, bytes]) -> Iterator[Change]:
    for key in sorted(before.keys() | after.keys()):
        if before.get(key) != after.get(key):
            yield tree, key, before.get(key), after.get(key)


def _differences(before: Record | None, after: Record | None) -> Iterator[FieldChange]:
    """Yield the fields in which two structures differ."""
    sides = [{row.path: row for row in rows("", record)} if record is not None else {} for record in (before, after)]
    for path in dict.fromkeys((*sides[0], *sides[1])):
        was, now = (side.get(path) for side in sides)
        if was is None or now is None or was.value != now.value:
            yield FieldChange(path, was, now)


def item_fields(key: Key, before: bytes | None, after: bytes | None) -> Iterator[FieldChange]:
    """Yield the fields in which an item's payloads differ; of new and deleted ones all."""
    sides = [parse_item(key, payload) if payload is not None else None for payload in (before, after)]
    records = [list(side.records) if side is not None else [] for side in sides]
    count = max(map(len, records))
    for number in range(count):
        was, now = (several[number] if number < len(several) else None for several in records)
        prefix = f"[{number}]." if count > 1 else ""
        for path, old, new in _differences(was, now):
            yield FieldChange(prefix + path, old, new)
    rest = [None if side is None or not side.tail else Row("payload", side.tail, "<") for side in sides]
    if (rest[0] and rest[0].value) != (rest[1] and rest[1].value):
        yield FieldChange("payload", *rest)


def write_lines(write: PlannedWrite) -> Iterator[str]:
    """Yield the lines that show a write."""
    place = f"device {write.devid} {write.physical}..{write.physical + write.length} ({write.length} bytes)"
    logical = "" if write.logical is None else f" {write.logical}"
    yield f"{place}: {write.kind.replace('-', ' ')}{logical}{f', {write.what}' if write.what else ''}"
    for change in write.fields:
        yield f"  {change.path}: {_text(change.before)} -> {_text(change.after)}"
    for item in write.items:
        yield from (f"  {line}" for line in item_lines(item))


def item_lines(item: Change) -> Iterator[str]:
    """Yield the lines that show what becomes of an item."""
    tree, key, before, after = item
    what = "new" if before is None else "deleted" if after is None else "changed"
    yield f"{what} item ({key_words(key)}) of tree {objectid_name(tree)}"
    for change in item_fields(key, before, after):
        yield f"  {change.path}: {_text(change.before)} -> {_text(change.after)}"


def _text(row: Row | None) -> str:
    if row is None:
        return "none"
    text = value_text(row.value, row.code) or "''"
    means = row.of and meaning(row.of, row.path.rpartition(".")[2], row.value)
    return (text if len(text) <= _LONG else f"{text[:_LONG]}…") + (f" ({means})" if means else "")


def write_json(write: PlannedWrite) -> str:
    """Return a write as a line of JSON."""
    place: dict[str, Any] = {"write": write.kind, "devid": write.devid, "physical": write.physical}
    place |= {"length": write.length, "logical": write.logical}
    items = [_item_object(item) for item in write.items]
    return json_line(place | {"fields": _objects(write.fields)} | ({"items": items} if items else {}))


def item_json(item: Change) -> str:
    """Return what becomes of an item as a line of JSON."""
    return json_line({"item": _item_object(item)})


def _item_object(item: Change) -> dict[str, Any]:
    tree, key, before, after = item
    sizes = {
        "size_before": None if before is None else len(before),
        "size_after": None if after is None else len(after),
    }
    return {"tree": tree, "key": key_object(key)} | sizes | {"fields": _objects(item_fields(key, before, after))}


def _objects(changes: Iterable[FieldChange]) -> list[dict[str, Any]]:
    return [
        {
            "field": path,
            **{name: None if row is None else json_value(row) for name, row in zip(_SIDES, both, strict=True)},
        }
        for path, *both in changes
    ]


_SIDES = ("before", "after")
