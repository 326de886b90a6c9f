"""Bodies of the items that account for extents: the extent tree."""

from __future__ import annotations

from typing import TYPE_CHECKING

from btrimg.ondisk import extents
from btrimg.ondisk.constants import ExtentFlag, ItemType
from btrimg.ondisk.csum import extent_data_ref_hash
from btrimg.render.names import flags_text, key_text, objectid_name

if TYPE_CHECKING:
    from btrimg.ondisk.blocks import Key
    from btrimg.ondisk.record import Record
    from btrimg.render.dump_files import Lines, Printer
    from btrimg.render.style import Style


def _extent_item(key: Key, extent: extents.ExtentItem, _style: Style) -> Lines:
    yield f"\t\trefs {extent.refs} gen {extent.generation} flags {flags_text(extent.flags, ExtentFlag, '')}"
    if key.type == ItemType.METADATA_ITEM:
        yield f"\t\ttree block skinny level {key.offset}"


def _extent_item_v0(_key: Key, extent: extents.ExtentItemV0, _style: Style) -> Lines:
    yield f"\t\trefs {extent.refs} (v0)"


def _tree_block_info(_key: Key, info: extents.TreeBlockInfo, _style: Style) -> Lines:
    yield f"\t\ttree block {key_text(info.key)} level {info.level}"


def _inline_ref(_key: Key, ref: extents.InlineRef, _style: Style) -> Lines:
    if ref.type == ItemType.TREE_BLOCK_REF:
        what = f"tree block backref root {objectid_name(ref.offset)}"
    elif ref.type == ItemType.SHARED_BLOCK_REF:
        what = f"shared block backref parent {ref.offset}"
    else:
        what = f"extent owner root {ref.offset}"
    yield f"\t\t({ref.type} 0x{ref.offset:x}) {what}"


def _data_ref_text(ref: extents.ExtentDataRef | extents.InlineDataRef) -> str:
    return (
        f"extent data backref root {objectid_name(ref.root)} objectid {ref.objectid}"
        f" offset {ref.offset} count {ref.count}"
    )


def _inline_data_ref(_key: Key, ref: extents.InlineDataRef, _style: Style) -> Lines:
    key_offset = extent_data_ref_hash(ref.root, ref.objectid, ref.offset)  # of the keyed item it could be
    yield f"\t\t({ref.type} 0x{key_offset:x}) {_data_ref_text(ref)}"


def _inline_shared_data_ref(_key: Key, ref: extents.InlineSharedDataRef, _style: Style) -> Lines:
    yield f"\t\t({ref.type} 0x{ref.offset:x}) shared data backref parent {ref.offset} count {ref.count}"


def _extent_data_ref(_key: Key, ref: extents.ExtentDataRef, _style: Style) -> Lines:
    yield f"\t\t{_data_ref_text(ref)}"


def _shared_data_ref(_key: Key, ref: extents.SharedDataRef, _style: Style) -> Lines:
    yield f"\t\tshared data backref count {ref.count}"


def _extent_owner_ref(_key: Key, ref: extents.ExtentOwnerRef, _style: Style) -> Lines:
    yield f"\t\textent owner root {ref.root_id}"


#: What each kind of record says.
PRINTERS: dict[type[Record], Printer] = {
    extents.ExtentItem: _extent_item,
    extents.ExtentItemV0: _extent_item_v0,
    extents.TreeBlockInfo: _tree_block_info,
    extents.InlineRef: _inline_ref,
    extents.InlineDataRef: _inline_data_ref,
    extents.InlineSharedDataRef: _inline_shared_data_ref,
    extents.ExtentDataRef: _extent_data_ref,
    extents.SharedDataRef: _shared_data_ref,
    extents.ExtentOwnerRef: _extent_owner_ref,
}
