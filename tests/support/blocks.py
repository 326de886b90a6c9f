"""A tree of three levels made by hand, and the tree blocks that it takes: what no image needs to be written for."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from btrimg.ondisk.blocks import DiskKey, Header, Item, Key, KeyPtr
from btrimg.ondisk.constants import ItemType
from btrimg.ondisk.csum import algorithm
from btrimg.ondisk.inodes import InodeRef
from btrimg.trees.block import BlockReader, Pointer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from btrimg.volume.volume import Volume

NODESIZE = 4096
FSID, CHUNK_UUID = bytes(range(16)), bytes(range(100, 116))
CSUM = algorithm(1)
FS_TREE = 5


class Blocks:
    """Stand in for a volume: any number of copies of each block, with no device below; keeps warnings."""

    csum, nodesize = CSUM, NODESIZE

    def __init__(self, blocks: dict[int, list[bytes]]) -> None:
        self.blocks = blocks
        self.said: list[str] = []

    def candidates(self, logical: int, length: int) -> Iterator[bytes]:
        assert length == NODESIZE
        yield from self.blocks.get(logical, [])

    def warn(self, message: str) -> None:
        self.said.append(message)


def seal(header: Header, content: bytes) -> bytes:
    data = header.pack() + content.ljust(NODESIZE - Header.SIZE, b"\0")
    return CSUM.digest(data[32:]).ljust(32, b"\0") + data[32:]


def header(bytenr: int, level: int, count: int) -> Header:
    return Header(bytes(32), FSID, bytenr, 1 << 56 | 3, CHUNK_UUID, 9, FS_TREE, count, level)


def leaf(bytenr: int, items: list[tuple[Key, bytes]]) -> bytes:
    slots, data, end = b"", b"", NODESIZE - Header.SIZE
    for key, payload in items:
        end -= len(payload)
        slots += Item(DiskKey(*key), end, len(payload)).pack()
        data = payload + data
    return seal(header(bytenr, 0, len(items)), slots + bytes(end - len(slots)) + data)


def node(bytenr: int, level: int, children: list[tuple[Key, int]]) -> bytes:
    slots = b"".join(KeyPtr(DiskKey(*key), child, 9).pack() for key, child in children)
    return seal(header(bytenr, level, len(children)), slots)


def inode_ref(ino: int) -> tuple[Key, bytes]:
    return Key(ino, ItemType.INODE_REF, 256), InodeRef(ino, 4, b"%4d" % ino).pack()


#: A root over two nodes over five leaves of three items: inodes 257 to 271.
ROOT, NODES, LEAVES = 1 << 20, [(2 << 20), (3 << 20)], [(4 << 20) + n * NODESIZE for n in range(5)]
AT = Pointer(ROOT, 2, 9, FS_TREE)


def tree() -> dict[int, list[bytes]]:
    first = [257, 260, 263, 266, 269]
    blocks = {
        LEAVES[n]: [leaf(LEAVES[n], [inode_ref(ino) for ino in range(first[n], first[n] + 3)])] * 2 for n in range(5)
    }
    keys = [Key(ino, ItemType.INODE_REF, 256) for ino in first]
    blocks[NODES[0]] = [node(NODES[0], 1, list(zip(keys[:3], LEAVES[:3], strict=True)))] * 2
    blocks[NODES[1]] = [node(NODES[1], 1, list(zip(keys[3:], LEAVES[3:], strict=True)))] * 2
    blocks[ROOT] = [node(ROOT, 2, [(keys[0], NODES[0]), (keys[3], NODES[1])])] * 2
    return blocks


def reader(blocks: dict[int, list[bytes]]) -> BlockReader:
    return BlockReader(cast("Volume", Blocks(blocks)), {FSID})
