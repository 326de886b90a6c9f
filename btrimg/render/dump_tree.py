"""Tree blocks in the layout of ``btrfs inspect-internal dump-tree`` (6.19)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from btrimg.errors import BlockError, CorruptError
from btrimg.ondisk.blocks import KEY_MAX, KEY_MIN, Header, Item, Key, KeyPtr
from btrimg.ondisk.constants import BACKREF_REV_SHIFT, HeaderFlag, TreeId
from btrimg.render.dump_items import body_lines
from btrimg.render.names import flags_text, key_text, objectid_name
from btrimg.trees.salvage import fault_of, slots_between
from btrimg.volume.superblocks import uuid_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from btrimg.ondisk.superblock import Superblock
    from btrimg.render.style import Style
    from btrimg.trees.block import Block, Pointer

#: What dump-tree calls a tree in its heading; other trees are ``file`` trees.
_TREE_NAMES: dict[int, str] = {
    TreeId.ROOT_TREE: "root",
    TreeId.EXTENT_TREE: "extent",
    TreeId.CHUNK_TREE: "chunk",
    TreeId.DEV_TREE: "device",
    TreeId.FS_TREE: "fs",
    TreeId.ROOT_TREE_DIR: "directory",
    TreeId.CSUM_TREE: "checksum",
    TreeId.QUOTA_TREE: "quota",
    TreeId.UUID_TREE: "uuid",
    TreeId.FREE_SPACE_TREE: "free space",
    TreeId.BLOCK_GROUP_TREE: "block group",
    TreeId.RAID_STRIPE_TREE: "raid stripe",
    TreeId.REMAP_TREE: "remap",
    TreeId.ORPHAN: "orphan",
    TreeId.TREE_LOG: "log",
    TreeId.TREE_LOG_FIXUP: "log fixup",
    TreeId.TREE_RELOC: "reloc",
    TreeId.DATA_RELOC_TREE: "data reloc",
    TreeId.EXTENT_CSUM: "extent checksum",
    TreeId.MULTIPLE: "multiple",
}


def tree_heading(tree_id: int, key: Key | None) -> str:
    """Return the line above a tree that the root item at *key* leads to, or that needs no root item to be named."""
    name = _TREE_NAMES.get(tree_id, "file")
    if key is None:
        return "log root tree" if tree_id == TreeId.TREE_LOG else f"{name} tree"
    return f"{name} tree {key_text(key)} "


def root_line(tree_id: int, key: Key | None, at: Pointer) -> str:
    """Return the line that ``--roots`` shows of a tree whose root block is *at*."""
    heading = tree_heading(tree_id, key)
    return f"{heading}: {at.logical} level {at.level}" if key is None else f"{heading}{at.logical} level {at.level}"


def found_lines(found: Block | BlockError, style: Style, first: Key = KEY_MIN, last: Key = KEY_MAX) -> Iterator[str]:
    """Yield what was found where a block should be; a first line says so if it is bad."""
    fault = fault_of(found)
    if fault:
        yield f"BAD {fault}"
    if not isinstance(found, BlockError):
        yield from block_lines(found, style, first, last)


def block_lines(block: Block, style: Style, first: Key = KEY_MIN, last: Key = KEY_MAX) -> Iterator[str]:
    """Yield *block* as text: its header, and of its items or pointers those with first <= key <= last.

    Items whose payload lies outside the leaf say so.
    """
    yield from _header_lines(block, style)
    slots = slots_between(block, first, last)
    yield from _pointer_lines(block, slots) if block.header.level else _item_lines(block, slots, style)


def leaf_free_space(leaf: Block) -> int:
    """Return the bytes between the slots and the payloads; negative in a broken leaf."""
    room = len(leaf.data) - Header.SIZE
    if not leaf.slots:
        return room
    *_, first_offset, first_size = leaf.slots[0]
    *_, last_offset, _ = leaf.slots[-1]
    return room - (first_offset + first_size - last_offset) - len(leaf.slots) * Item.SIZE


def _header_lines(block: Block, style: Style) -> Iterator[str]:
    header = block.header
    kind = "node" if header.level else "leaf"
    if header.level:
        free = (len(block.data) - Header.SIZE) // KeyPtr.SIZE - header.nritems
        size = f"level {header.level} items {header.nritems} free space {free}"
    else:
        size = f"items {header.nritems} free space {leaf_free_space(block)}"
    yield f"{kind} {header.bytenr} {size} generation {header.generation} owner {objectid_name(header.owner)}"
    flags = header.flags & (1 << BACKREF_REV_SHIFT) - 1
    csum = f" csum 0x{header.csum[: style.csum_size].hex()}" if style.csum_headers else ""
    yield (
        f"{kind} {header.bytenr} flags 0x{flags:x}({flags_text(flags, HeaderFlag, '')})"
        f" backref revision {header.flags >> BACKREF_REV_SHIFT}{csum}"
    )
    yield f"fs uuid {uuid_text(header.fsid)}"
    yield f"chunk uuid {uuid_text(header.chunk_tree_uuid)}"


def _pointer_lines(node: Block, slots: Sequence[int]) -> Iterator[str]:
    for slot in slots:
        *key, blockptr, generation = node.slots[slot]
        yield f"\t{key_text(Key(*key))} block {blockptr} gen {generation}"


def _item_lines(leaf: Block, slots: Sequence[int], style: Style) -> Iterator[str]:
    for slot in slots:
        *_, offset, size = leaf.slots[slot]
        key = leaf.key(slot)
        yield f"\titem {slot} {key_text(key)} itemoff {offset} itemsize {size}"
        try:
            payload = leaf.payload(slot)
        except CorruptError:
            yield "\t\titem data lies outside the data area"
        else:
            yield from body_lines(key, payload, style)


def backup_lines(superblock: Superblock) -> Iterator[str]:
    """Yield what ``--backups`` shows of the four last commits."""
    for slot, backup in enumerate(superblock.super_roots):
        yield f"btrfs root backup slot {slot}"
        yield f"\ttree root gen {backup.tree_root_gen} block {backup.tree_root}"
        for name, field in (
            ("extent", "extent_root"),
            ("chunk", "chunk_root"),
            ("device", "dev_root"),
            ("csum", "csum_root"),
            ("fs", "fs_root"),
        ):
            yield f"\t\t{name} root gen {getattr(backup, f'{field}_gen')} block {getattr(backup, field)}"
        yield f"\t\t{backup.bytes_used} used {backup.total_bytes} total {backup.num_devices} devices"


def total_lines(superblock: Superblock) -> Iterator[str]:
    """Yield the last lines of a dump."""
    yield f"total bytes {superblock.total_bytes}"
    yield f"bytes used {superblock.bytes_used}"
    yield f"uuid {uuid_text(superblock.fsid)}"
