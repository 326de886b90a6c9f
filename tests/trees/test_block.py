"""What a tree block must be: every promise of the parent is kept by a whole tree, and each one broken is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from support.blocks import (
    AT,
    CSUM,
    FS_TREE,
    LEAVES,
    NODES,
    NODESIZE,
    ROOT,
    header,
    inode_ref,
    leaf,
    node,
    reader,
    seal,
    tree,
)

from btrimg.errors import BlockError, CorruptError, NotFoundError
from btrimg.ondisk.blocks import DiskKey, Header, Item, Key
from btrimg.ondisk.constants import ItemType, TreeId
from btrimg.trees.block import Block, Pointer
from btrimg.trees.tree import Tree

if TYPE_CHECKING:
    from collections.abc import Callable

LEAF = LEAVES[1]
REFS = [inode_ref(ino) for ino in (260, 261, 262)]
FIRST, END = REFS[0][0], inode_ref(263)[0]
PROMISE = Pointer(LEAF, 0, 9, FS_TREE, FIRST, END)


def changed(**fields: Any) -> bytes:
    """Return the leaf with some header fields changed, sealed again."""
    whole = leaf(LEAF, REFS)
    return seal(Header.unpack(whole).replace(**fields), whole[Header.SIZE :])


def test_a_block_that_keeps_every_promise_is_read() -> None:
    block = reader({LEAF: [leaf(LEAF, REFS)]}).read(PROMISE)
    assert [(block.key(slot), block.payload(slot)) for slot in range(len(block))] == REFS


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (leaf(LEAF, REFS)[:-1] + b"x", "bad checksum"),
        (changed(bytenr=LEAF + NODESIZE), f"claims to be block {LEAF + NODESIZE}"),
        (changed(fsid=bytes(16)), "belongs to another filesystem"),
        (changed(level=8), "bad level 8"),
        (changed(level=1), "level is 1, its parent says 0"),
        (changed(generation=8), "generation is 8, its parent says 9"),
        (changed(owner=TreeId.EXTENT_TREE), "owner is 2, it was reached from tree 5"),
        (changed(nritems=(NODESIZE - Header.SIZE) // Item.SIZE + 1), "bad nritems 160"),
        (changed(nritems=0), "first key is none"),
        (leaf(LEAF, REFS[1:]), "first key is (261, 12, 256), its parent says (260, "),
        (leaf(LEAF, [REFS[0], REFS[2], REFS[1]]), "keys out of order"),
        (leaf(LEAF, [REFS[0], REFS[0]]), "keys out of order"),
        (leaf(LEAF, [*REFS, inode_ref(263)]), "last key (263, 12, 256) is not below the next block's"),
    ],
)
def test_a_block_that_is_not_as_promised_is_refused_for_its_reason(data: bytes, reason: str) -> None:
    blocks = reader({LEAF: [data]})
    with pytest.raises(BlockError) as refused:
        blocks.read(PROMISE)
    assert f"tree block {LEAF}: {reason}" in str(refused.value)
    blocks.volume.blocks[LEAF].append(leaf(LEAF, REFS))  # type: ignore[attr-defined]
    assert len(blocks.read(PROMISE)) == 3, "the next copy is good"
    assert [reason in said for said in blocks.volume.said] == [True]  # type: ignore[attr-defined]


def test_a_node_without_pointers_is_refused() -> None:
    with pytest.raises(BlockError, match="a node without pointers") as refused:
        reader({LEAF: [seal(header(LEAF, 1, 0), b"")]}).read(Pointer(LEAF, 1))
    assert (refused.value.logical, refused.value.fault, refused.value.level) == (LEAF, "nritems", 1)


def test_a_cached_block_keeps_other_promises_too() -> None:
    blocks = reader({LEAF: [leaf(LEAF, REFS)]})
    blocks.read(Pointer(LEAF, 0))
    for lie in ({"generation": 8}, {"level": 1}, {"owner": 2}, {"first_key": END}, {"end_key": REFS[2][0]}):
        with pytest.raises(BlockError):
            blocks.read(PROMISE._replace(**lie))


def test_subvolumes_share_blocks_and_nobody_else_does() -> None:
    blocks = reader({LEAF: [changed(owner=257)]})
    assert len(blocks.read(PROMISE)) == len(blocks.read(PROMISE._replace(owner=300))) == 3
    assert len(blocks.read(PROMISE._replace(owner=TreeId.TREE_RELOC))) == 3
    for other in (TreeId.CSUM_TREE, TreeId.DATA_RELOC_TREE, 1 << 48 | 257):
        with pytest.raises(BlockError, match="owner is 257"):
            blocks.read(PROMISE._replace(owner=other))


@pytest.mark.parametrize(
    ("offset", "size"), [(NODESIZE - Header.SIZE - 3, 4), (Item.SIZE - 1, 4), ((1 << 32) - 1, 1), (0, 1)]
)
def test_a_payload_outside_the_data_area_is_refused(offset: int, size: int) -> None:
    data = seal(header(LEAF, 0, 1), Item(DiskKey(*FIRST), offset, size).pack())
    with pytest.raises(CorruptError, match="outside the data area"):
        reader({LEAF: [data]}).read(PROMISE).payload(0)


def test_a_payload_may_touch_both_ends_of_the_data_area() -> None:
    size = NODESIZE - Header.SIZE - Item.SIZE
    data = seal(header(LEAF, 0, 1), Item(DiskKey(*FIRST), Item.SIZE, size).pack())
    assert reader({LEAF: [data]}).read(PROMISE).payload(0) == bytes(size)


def test_a_node_promises_what_it_says_of_its_children() -> None:
    blocks = reader(tree())
    root = blocks.read(AT)
    left, right = root.children(range(2), AT)
    assert left == Pointer(NODES[0], 1, 9, FS_TREE, inode_ref(257)[0], inode_ref(266)[0])
    assert right == Pointer(NODES[1], 1, 9, FS_TREE, inode_ref(266)[0], None)
    *_, last = blocks.read(left).children(range(3), left)
    assert last.end_key == inode_ref(266)[0], "the right neighbour's first key, from one level up"


def test_a_tree_gives_every_item_of_a_range_and_its_ends() -> None:
    whole = Tree(reader(tree()), AT)
    keys = [key for key, _ in whole.items()]
    assert keys == [inode_ref(ino)[0] for ino in range(257, 272)]
    for first in range(256, 273):
        for last in range(first, 273):
            got = whole.items(Key(first, ItemType.INODE_REF, 256), Key(last, ItemType.INODE_REF, 256))
            assert [key.objectid for key, _ in got] == [ino for ino in range(257, 272) if first <= ino <= last]


def test_a_tree_gives_one_item_or_the_one_below() -> None:
    whole = Tree(reader(tree()), AT)
    assert whole.get(inode_ref(263)[0]) == inode_ref(263)[1]
    with pytest.raises(NotFoundError):
        whole.get(Key(263, ItemType.INODE_REF, 255))
    assert whole.floor(Key(263, ItemType.INODE_REF, 255)) == inode_ref(262), "it is in the leaf before"
    assert whole.floor(Key(256, 255, 0)) is None


def _bad_leaf(blocks: dict[int, list[bytes]]) -> None:
    blocks[LEAF] = [b"\0" * NODESIZE] * 2


def _bad_item(blocks: dict[int, list[bytes]]) -> None:
    slots = b"".join(Item(DiskKey(*key), 0, 4).pack() for key, _ in REFS)
    blocks[LEAF] = [seal(header(LEAF, 0, 3), slots)]


def _loop(blocks: dict[int, list[bytes]]) -> None:
    keys = [inode_ref(ino)[0] for ino in (257, 260, 263)]
    blocks[NODES[0]] = [node(NODES[0], 1, [(keys[0], LEAVES[0]), (keys[1], ROOT), (keys[2], LEAVES[2])])]


@pytest.mark.parametrize(("damage", "faults"), [(_bad_leaf, 1), (_bad_item, 3), (_loop, 1)])
def test_what_is_bad_is_raised_or_told_and_the_rest_comes(
    damage: Callable[[dict[int, list[bytes]]], None], faults: int
) -> None:
    blocks = tree()
    damage(blocks)
    with pytest.raises(CorruptError):
        list(Tree(reader(blocks), AT).items())
    told: list[CorruptError] = []
    got = [key.objectid for key, _ in Tree(reader(blocks), AT).items(bad=told.append)]
    assert got == [ino for ino in range(257, 272) if ino not in (260, 261, 262)]
    assert len(told) == faults


def test_a_block_decodes_its_slots_by_level() -> None:
    data = node(NODES[0], 1, [(FIRST, LEAF)])
    assert Block(Header.unpack(data), data).slots == [(*FIRST, LEAF, 9)]
    assert CSUM.digest(data[32:]) == data[: CSUM.size]
