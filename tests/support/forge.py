"""Rewrite tree blocks and superblocks of an image in place, checksums made right: what no kernel would have written."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from btrimg.errors import UnsupportedError
from btrimg.filesystem.image import open_image
from btrimg.ondisk.blocks import KEY_MIN, DiskKey, Header, Item, Key
from btrimg.ondisk.constants import SUPERBLOCK_OFFSETS, SUPERBLOCK_SIZE
from btrimg.ondisk.csum import algorithm
from btrimg.ondisk.superblock import Superblock

if TYPE_CHECKING:
    from collections.abc import Callable, MutableMapping

    from btrimg.filesystem.image import Image

    Items = MutableMapping[Key, bytes]


def edit_leaf(path: str, tree_id: int, change: Callable[[Items], None], at: Key = KEY_MIN) -> None:
    """Let *change* edit the items of the leaf of a tree in which *at* is, or would be: the first one by default."""
    with open_image(path, warn=_ignore) as image:
        pointer = image.tree(tree_id).root
        while (block := image.blocks.read(pointer)).header.level:
            slot = max(sum(key[:3] <= at for key in block.slots) - 1, 0)
            pointer = block.child(slot, pointer)
        items: Items = {block.key(slot): block.payload(slot) for slot in range(len(block))}
        change(items)
        write_block(image, path, pointer.logical, pack_leaf(block.header, items, image.volume.nodesize))


def pack_leaf(header: Header, items: Items, nodesize: int) -> bytes:
    """Return a leaf that holds *items*, payloads packed from its end."""
    slots, payloads, offset = [], [], nodesize - Header.SIZE
    for key, payload in sorted(items.items()):
        offset -= len(payload)
        slots.append(Item(DiskKey(*key), offset, len(payload)).pack())
        payloads.append(payload)
    head = header.replace(nritems=len(slots)).pack() + b"".join(slots)
    tail = b"".join(reversed(payloads))
    assert len(head) + len(tail) <= nodesize, "the items do not fit a leaf"
    return head + bytes(nodesize - len(head) - len(tail)) + tail


def write_block(image: Image, path: str, logical: int, data: bytes) -> None:
    """Write a tree block, with its checksum, over every copy."""
    csum = image.volume.csum
    sealed = csum.digest(data[32:]).ljust(32, b"\0") + data[32:]
    with open(path, "r+b") as file:
        for place in image.volume.chunk_map.locate(logical).copies:
            os.pwrite(file.fileno(), sealed, place.physical)


def edit_superblock(path: str, change: Callable[[Superblock], Superblock]) -> None:
    """Let *change* make another superblock of each copy."""
    with open(path, "r+b") as file:
        for offset in SUPERBLOCK_OFFSETS:
            raw = os.pread(file.fileno(), SUPERBLOCK_SIZE, offset)
            if len(raw) == SUPERBLOCK_SIZE:
                os.pwrite(file.fileno(), seal_superblock(change(Superblock.unpack(raw)).pack()), offset)


def seal_superblock(data: bytes) -> bytes:
    """Return the bytes of a superblock with its checksum made right, as it was if the type is not known."""
    try:
        csum = algorithm(Superblock.unpack(data).csum_type)
    except UnsupportedError:
        return data
    return csum.digest(data[32:]).ljust(32, b"\0") + data[32:]


def _ignore(_message: str) -> None:
    pass
