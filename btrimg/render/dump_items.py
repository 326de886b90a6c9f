"""The bodies of items in the layout of ``btrfs inspect-internal dump-tree`` (6.19).

One table says what a key type prints before its records, or instead; another, spread over :mod:`dump_files`,
:mod:`dump_extents` and :mod:`dump_space`, what each kind of record prints. Where btrfs-progs leaves a value out or gets
it wrong (docs/verification.md lists the cases) it is here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from btrimg.ondisk.constants import DEV_STATS_OBJECTID, ItemType, TreeId
from btrimg.ondisk.csum import CSUM_SIZES, algorithm
from btrimg.ondisk.items import parse
from btrimg.render import dump_extents, dump_files, dump_space
from btrimg.render.names import objectid_name

if TYPE_CHECKING:
    from collections.abc import Callable

    from btrimg.ondisk.blocks import Key
    from btrimg.render.dump_files import Lines
    from btrimg.render.style import Style

    Preface = Callable[[Key, bytes, Style], Lines]

_PRINTERS = dump_files.PRINTERS | dump_extents.PRINTERS | dump_space.PRINTERS

#: Key types whose payload is not made of records, or of records that their preface prints.
_WITHOUT_RECORDS = frozenset(
    {
        ItemType.VERITY_DESC_ITEM,
        ItemType.VERITY_MERKLE_ITEM,
        ItemType.CSUM_ITEM,
        ItemType.EXTENT_CSUM,
        ItemType.EXTENT_REF_V0,
        ItemType.FREE_SPACE_BITMAP,
        ItemType.RAID_STRIPE,
        ItemType.STRING_ITEM,
    }
)
_KNOWN = frozenset(ItemType) - _WITHOUT_RECORDS


def body_lines(key: Key, payload: bytes, style: Style) -> Lines:
    """Yield the lines below an item's own; bytes that do not fit the item's type are counted in a last one."""
    preface = _PREFACES.get(key.type)
    if preface:
        yield from preface(key, payload, style)
    if key.type in _KNOWN:
        value = parse(key.type, payload)
        for record in value.records:
            yield from _PRINTERS[type(record)](key, record, style)
        if value.tail:
            yield f"\t\t{len(value.tail)} bytes that do not fit"


def _constant(text: str) -> Preface:
    def lines(_key: Key, _payload: bytes, _style: Style) -> Lines:
        yield f"\t\t{text}"

    return lines


def _csums(key: Key, payload: bytes, style: Style) -> Lines:
    size = style.csum_size
    count = len(payload) // size
    length = count * style.sectorsize
    yield f"\t\trange start {key.offset} end {key.offset + length} length {length}"
    if style.csum_items:
        cells = [
            f"[{key.offset + number * style.sectorsize}] 0x{payload[number * size : (number + 1) * size].hex()}"
            for number in range(count)
        ]
        a_line = max(1, 16 // size)
        yield from ("\t\t" + " ".join(cells[at : at + a_line]) for at in range(0, count, a_line))


def _string(_key: Key, payload: bytes, style: Style) -> Lines:
    yield f"\t\titem data {style.name(payload)}"


def _persistent(key: Key, _payload: bytes, _style: Style) -> Lines:
    yield f"\t\tpersistent item objectid {objectid_name(key.objectid, key.type)} offset {key.offset}"
    known = key.objectid == DEV_STATS_OBJECTID
    yield "\t\tdevice stats" if known else f"\t\tunknown persistent item objectid {key.objectid}"


def _temporary(key: Key, _payload: bytes, _style: Style) -> Lines:
    yield f"\t\ttemporary item objectid {objectid_name(key.objectid, key.type)} offset {key.offset}"
    if key.objectid == TreeId.CSUM_CHANGE:
        if key.offset in CSUM_SIZES:
            yield f"\t\ttarget csum type {algorithm(key.offset).name} ({key.offset})"
        else:
            yield f"\t\tunknown csum type {key.offset}"
    elif key.objectid != TreeId.BALANCE:
        yield f"\t\tunknown temporary item objectid {key.objectid}"


def _raid_stripe(_key: Key, payload: bytes, _style: Style) -> Lines:
    for number, (devid, physical) in enumerate(parse(ItemType.RAID_STRIPE, payload).records):
        yield f"\t\t\tstripe {number} devid {devid} physical {physical}"


_PREFACES: dict[int, Preface] = {
    ItemType.ORPHAN_ITEM: _constant("orphan item"),
    ItemType.TREE_BLOCK_REF: _constant("tree block backref"),
    ItemType.SHARED_BLOCK_REF: _constant("shared block backref"),
    ItemType.EXTENT_REF_V0: _constant("extent ref v0 (deprecated)"),
    ItemType.CSUM_ITEM: _constant("csum item"),
    ItemType.EXTENT_CSUM: _csums,
    ItemType.FREE_SPACE_EXTENT: _constant("free space extent"),
    ItemType.FREE_SPACE_BITMAP: _constant("free space bitmap"),
    ItemType.RAID_STRIPE: _raid_stripe,
    ItemType.TEMPORARY_ITEM: _temporary,
    ItemType.PERSISTENT_ITEM: _persistent,
    ItemType.STRING_ITEM: _string,
}
