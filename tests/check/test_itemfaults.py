"""Items against the laws of their types: all at once, and one by one."""

from __future__ import annotations

import struct
from types import SimpleNamespace
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from btrimg.check.itemfaults import ITEM_FAULTS, ItemJudge
from btrimg.check.itemlaws import laws
from btrimg.ondisk.blocks import Header, Key
from btrimg.ondisk.constants import ExtentFlag, FileType, ItemType, TreeId
from btrimg.ondisk.csum import extent_data_ref_hash
from btrimg.ondisk.extents import (
    ExtentDataRef,
    ExtentItem,
    FileExtent,
    FileExtentInline,
    InlineDataRef,
    InlineRef,
    InlineSharedDataRef,
)
from btrimg.ondisk.inodes import DirItem
from btrimg.ondisk.items import ITEM_KINDS
from btrimg.ondisk.roots import RootRef
from btrimg.trees.leafbatch import LeafBatch, leaf_of

SECTOR, CSUM = 4096, 4
JUDGE = ItemJudge(SimpleNamespace(nodesize=16384, sectorsize=SECTOR, csum=SimpleNamespace(size=CSUM)))  # type: ignore[arg-type]
LEAF = 1 << 20
OWN_NUMBERS = (TreeId.ROOT_TREE_DIR, TreeId.FREE_INO, TreeId.FS_TREE)

numbers = st.one_of(
    st.integers(0, 255),
    st.integers(0, 600),
    st.integers(0, 1 << 20).map(lambda n: n * SECTOR),
    st.integers(1, 600).map(lambda n: (1 << 64) - n),
    st.integers(0, (1 << 64) - 1),
)
sizes = st.one_of(st.integers(0, 700), st.sampled_from([53, 160, 239, 439, 448, 2048, 3000]))
of_files = st.sampled_from([kind for kind in ITEM_KINDS if kind <= ItemType.EXTENT_DATA])
types = st.one_of(of_files, st.sampled_from(sorted(ITEM_KINDS)), st.integers(0, 255))
owners = st.one_of(st.just(TreeId.FS_TREE), st.sampled_from([*TreeId]), st.integers(0, 1000), st.just(1 << 50))


def batch_of(items: list[tuple[Key, bytes]], owner: int) -> LeafBatch:
    batch = leaf_of(items, 7)
    batch.heads["bytenr"], batch.heads["owner"], batch.heads["nritems"] = LEAF, owner, 0
    return batch  # of which no payload is judged by its place, for there are more than the head says


def faults_of(items: list[tuple[Key, bytes]], owner: int = TreeId.FS_TREE) -> set[tuple[str, Key, int, int]]:
    """Return the faults that are found: word, key, what is there and what should be."""
    _, rows = JUDGE.faults(batch_of(items, owner))
    assert set(rows.leaf.tolist()) <= {LEAF}
    assert set(rows.tree.tolist()) <= {owner}
    keys = map(Key, rows.objectid.tolist(), rows.type.tolist(), rows.offset.tolist())
    words = [ITEM_FAULTS[code] for code in rows.fault.tolist()]
    return set(zip(words, keys, rows.found.tolist(), rows.expected.tolist(), strict=True))


def expected_faults(key: Key, payload: bytes, owner: int) -> set[str]:
    """Return the words of the faults of one item, by its law and the trees that hold its type."""
    law = laws(CSUM).get(key.type)
    found = set()
    files = owner == TreeId.FS_TREE or TreeId.FIRST_FREE <= owner < 1 << 48
    if files or owner in (TreeId.TREE_RELOC, TreeId.DATA_RELOC_TREE):
        owner = TreeId.FS_TREE
    known = owner < TreeId.ROOT_TREE_DIR or TreeId.CSUM_TREE <= owner < TreeId.FIRST_FREE or owner == TreeId.TREE_LOG
    also = {(TreeId.FS_TREE, 0), (TreeId.UUID_TREE, ItemType.INODE_ITEM), (TreeId.UUID_TREE, ItemType.INODE_REF)}
    if known and owner in set(TreeId):
        kind = ITEM_KINDS.get(key.type)
        if not (kind and owner in kind.trees) and (owner, key.type) not in also:
            found.add("tree")
    if law is None:
        return found
    beyond = len(payload) - law.least
    if beyond < 0 or len(payload) > law.most or beyond % law.step:
        found.add("size")
    own = key.objectid in OWN_NUMBERS and key.type <= ItemType.EXTENT_DATA
    for name, (low, high) in (("objectid", law.objectid), ("offset", law.offset)):
        value = getattr(key, name)
        if own:
            continue
        if not low <= value <= high:
            found.add("key")
        elif name in law.aligned and value % SECTOR:
            found.add("alignment")
    inline = len(payload) < FileExtentInline.SIZE or payload[FileExtentInline.SIZE - 1] == 0
    if key.type == ItemType.EXTENT_DATA and not inline and len(payload) != FileExtent.SIZE:
        found.add("size")
    if key.type == ItemType.FREE_SPACE_BITMAP and payload and len(payload) != -(-(key.offset // SECTOR) // 8):
        found.add("size")
    if key.type == ItemType.EXTENT_DATA_REF and len(payload) == ExtentDataRef.SIZE:
        told = ExtentDataRef.unpack(payload)
        if (key.offset - extent_data_ref_hash(told.root, told.objectid, told.offset)) % (1 << 64) > 64:
            found.add("key")
    whole = RootRef.SIZE + int.from_bytes(payload[16:18], "little")
    if key.type in (ItemType.ROOT_REF, ItemType.ROOT_BACKREF) and RootRef.SIZE <= len(payload) != whole:
        found.add("size")
    if key.type in (ItemType.DIR_ITEM, ItemType.DIR_INDEX, ItemType.XATTR_ITEM):
        found |= entry_faults(payload, is_xattr=key.type == ItemType.XATTR_ITEM)
    return found


def entry_faults(payload: bytes, *, is_xattr: bool) -> set[str]:
    found: set[str] = set()
    while len(payload) >= DirItem.SIZE:
        objectid, item_type, offset, _, data_length, name_length, kind = struct.unpack_from("<QBQQHHB", payload)
        size = DirItem.SIZE + data_length + name_length
        if size > len(payload):
            break
        if is_xattr:
            found |= {"xattr-type"} if kind % 0x80 != FileType.XATTR else set()
            found |= {"location"} if objectid or item_type or offset else set()
        else:
            found |= {"entry-data"} if data_length else set()
            found |= {"location"} if offset and item_type != ItemType.ROOT_ITEM else set()
        payload = payload[size:]
    return found


@given(
    st.lists(st.tuples(numbers, types, numbers, sizes), max_size=30), owners, st.sampled_from([b"\0", b"\1", b"\x88"])
)
def test_what_breaks_a_law_is_found_and_nothing_else(
    rows: list[tuple[int, int, int, int]], owner: int, fill: bytes
) -> None:
    items = sorted({Key(objectid, kind, offset): fill * size for objectid, kind, offset, size in rows}.items())
    found = {(word, key) for word, key, _, _ in faults_of(items, owner)}
    expected = {(word, key) for key, payload in items for word in expected_faults(key, payload, owner)}
    assert found == expected


def test_a_bitmap_of_another_size_than_its_range_needs_is_found() -> None:
    for offset, size in ((0, 1), (SECTOR, 2), (SECTOR * 800, 99)):
        (fault,) = faults_of([(Key(SECTOR, ItemType.FREE_SPACE_BITMAP, offset), bytes(size))], TreeId.FREE_SPACE_TREE)
        assert fault[0] == "size"


def test_of_xattrs_with_one_hash_every_one_is_looked_at() -> None:
    one, other = (bytes(DirItem.SIZE - 5) + b"\0\0\1\0" + bytes([kind]) + b"a" for kind in (8, 1))
    key = Key(257, ItemType.XATTR_ITEM, 7)
    assert faults_of([(key, one + one)], 5) == set()
    assert faults_of([(key, one + other)], 5) == {("xattr-type", key, 1, 8)}
    assert faults_of([(key, one + b"\5" + one[1:])], 5) == {("location", key, 5, 0)}


def test_a_name_has_no_data_and_leads_to_an_inode_or_a_subvolume() -> None:
    def entry(kind: int, offset: int, data: bytes) -> bytes:
        return struct.pack("<QBQQHHB", 300, kind, offset, 9, len(data), 1, FileType.DIR) + b"a" + data

    key = Key(257, ItemType.DIR_INDEX, 7)
    assert faults_of([(key, entry(ItemType.INODE_ITEM, 0, b""))], 5) == set()
    assert faults_of([(key, entry(ItemType.ROOT_ITEM, (1 << 64) - 1, b""))], 5) == set()
    assert faults_of([(key, entry(ItemType.INODE_ITEM, 9, b""))], 5) == {("location", key, 9, 0)}
    assert faults_of([(key, entry(ItemType.INODE_ITEM, 0, b"xy"))], 5) == {("entry-data", key, 2, 0)}


def test_what_should_be_there_is_the_nearest_that_may_be() -> None:
    root, orphan = Key(7, ItemType.ROOT_ITEM, 0), Key(3, ItemType.ORPHAN_ITEM, 300)
    extent = Key(257, ItemType.EXTENT_DATA, 5000)
    items = [(orphan, b""), (root, bytes(300)), (extent, bytes(53))]
    assert faults_of(items, 1 << 50) == {
        ("key", orphan, 3, (1 << 64) - 5),
        ("size", root, 300, 239),
        ("alignment", extent, 5000, 4096),
    }


def test_payloads_lie_one_before_the_other() -> None:
    items = [(Key(256 + n, ItemType.XATTR_ITEM, 1), bytes(40 + n)) for n in range(4)]
    batch = batch_of(items, TreeId.FS_TREE)
    end = Header.SIZE + 16384 - Header.SIZE
    position = end - np.cumsum(batch.size)
    heads = batch.heads.copy()
    heads["nritems"] = 4
    good = batch._replace(position=position, heads=heads, data=np.zeros(16384, np.uint8))
    assert _layout(good) == []
    for moved in range(4):
        wrong = position.copy()
        wrong[moved] -= 2
        faults = _layout(good._replace(position=wrong))
        assert faults[0] == (
            256 + moved,
            position[moved] + 40 + moved - 2 - Header.SIZE,
            position[moved] + 40 + moved - Header.SIZE,
        )
        assert [objectid for objectid, *_ in faults] == [256 + moved, 257 + moved][: 4 - moved]
    assert _layout(good._replace(position=position - 2, heads=batch.heads)) == [], "one lay outside of the leaf"


def _layout(batch: LeafBatch) -> list[tuple[int, int, int]]:
    _, rows = JUDGE.faults(batch)
    kept = rows.fault == ITEM_FAULTS.index("layout")
    return list(zip(rows.objectid[kept].tolist(), rows.found[kept].tolist(), rows.expected[kept].tolist(), strict=True))


def _data_ref(inode: int, offset: int = 0) -> tuple[int, int, bytes]:
    order = extent_data_ref_hash(256, inode, offset)
    return 178, -order, InlineDataRef(ItemType.EXTENT_DATA_REF, 256, inode, offset % (1 << 64), 1).pack()


@given(st.integers(0, 1 << 40), st.integers(0, 1 << 40), st.integers(-(1 << 40), 1 << 40), st.integers(0, 99))
def test_a_keyed_reference_stands_at_its_hash_or_a_little_above(root: int, inode: int, offset: int, above: int) -> None:
    expected = extent_data_ref_hash(root, inode, offset)
    key = Key(SECTOR, ItemType.EXTENT_DATA_REF, expected + above)
    found = faults_of([(key, ExtentDataRef(root, inode, offset % (1 << 64), 1).pack())], TreeId.EXTENT_TREE)
    assert found == ({("key", key, expected + above, expected)} if above > 64 else set())


references = st.one_of(
    st.builds(_data_ref, st.integers(256, 300), st.integers(-5, 5).map(lambda n: n * SECTOR)),
    st.integers(1, 9).map(lambda n: (176, -n, InlineRef(ItemType.TREE_BLOCK_REF, n).pack())),
    st.integers(1, 9).map(lambda n: (182, -n * SECTOR, InlineRef(ItemType.SHARED_BLOCK_REF, n * SECTOR).pack())),
    st.integers(1, 9).map(
        lambda n: (184, -n * SECTOR, InlineSharedDataRef(ItemType.SHARED_DATA_REF, n * SECTOR, 1).pack())
    ),
)


@given(st.lists(st.lists(references, max_size=5), min_size=1, max_size=4), st.booleans())
def test_references_are_in_order_of_type_and_from_the_greatest_down(
    several: list[list[tuple[int, int, bytes]]], skinny: bool
) -> None:
    items, expected = [], set()
    kind = ItemType.METADATA_ITEM if skinny else ItemType.EXTENT_ITEM
    flag = ExtentFlag.TREE_BLOCK if skinny else ExtentFlag.DATA
    for number, refs in enumerate(several, 1):
        key = Key(number * SECTOR, kind, 0 if skinny else SECTOR)
        items.append((key, ExtentItem(1, 1, int(flag)).pack() + b"".join(data for _, _, data in refs)))
        order: list[Any] = [ref[:2] for ref in refs]
        if order != sorted(order):
            expected.add(key)
    found = faults_of(items, TreeId.EXTENT_TREE)
    assert {key for word, key, _, _ in found if word == "reference-order"} == expected
    assert all(word == "reference-order" for word, *_ in found)
