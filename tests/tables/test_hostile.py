"""Leaves of any content at all: rows are made, or something is reported, and nothing is raised."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from support.forge import edit_leaf
from support.images import copy_sparse

from btrimg.filesystem.image import open_image
from btrimg.filesystem.strings import Slices, Strings
from btrimg.ondisk.blocks import DiskKey, Key
from btrimg.ondisk.chunks import Chunk, Stripe
from btrimg.ondisk.constants import U64_MAX, ExtentFlag, ItemType, TreeId
from btrimg.ondisk.extents import (
    ExtentDataRef,
    ExtentItem,
    FileExtent,
    InlineDataRef,
    InlineRef,
    InlineSharedDataRef,
    SharedDataRef,
    TreeBlockInfo,
)
from btrimg.ondisk.inodes import DirItem, InodeExtref, InodeRef
from btrimg.ondisk.roots import RootItem
from btrimg.tables.build import build
from btrimg.tables.leafscan import TAKES, Facts
from btrimg.tables.query import query
from btrimg.tables.schema import RELATIONS
from btrimg.trees.leafbatch import leaf_of

from .reference import runs

if TYPE_CHECKING:
    from collections.abc import MutableMapping
    from pathlib import Path

    from btrimg.trees.leafbatch import LeafBatch

    Item = tuple[Key, bytes]

U64 = st.integers(0, U64_MAX) | st.integers(0, 300) | st.sampled_from([TreeId.ORPHAN, TreeId.EXTENT_CSUM])
KEYS = st.builds(Key, U64, st.sampled_from(list(ItemType)), U64)
REFS = st.sampled_from([172, 176, 178, 182, 184]).flatmap(
    lambda kind: st.binary(max_size=40).map(bytes([kind]).__add__)
)
PAYLOADS = st.binary(max_size=600) | st.tuples(st.binary(min_size=24, max_size=24), REFS, REFS).map(b"".join)


def facts(said: list[str]) -> Facts:
    return Facts(16384, 4096, 4, {}, lambda error: said.append(str(error)))


@pytest.mark.parametrize("name", TAKES)
@example(items=[(Key(0, key_type, 0), b"") for key_type in ItemType])
@given(items=st.lists(st.tuples(KEYS, PAYLOADS), max_size=8))
def test_any_leaf_gives_rows(name: str, items: list[Item]) -> None:
    found, columns = TAKES[name](leaf_of(items, 3), facts([]))
    assert set(columns) == {column.name for column in RELATIONS[name].columns}
    plain = (each.cut() if isinstance(each, Slices) else each for each in columns.values())
    rows = {each.rows if isinstance(each, Strings) else len(each) for each in plain}
    assert rows == {len(found.leaf)}
    assert set(found.leaf.tolist()) <= {3}


NAMED = st.lists(st.binary(max_size=255), max_size=5)


@given(names=NAMED, rest=st.binary(max_size=9))
def test_names_of_one_payload_come_in_order_and_a_rest_is_reported(names: list[bytes], rest: bytes) -> None:
    said: list[str] = []
    refs = b"".join(InodeRef(7, len(name), name).pack() for name in names)
    extrefs = b"".join(InodeExtref(9, 7, len(name), name).pack() for name in names)
    items = [
        (Key(300, ItemType.INODE_REF, 256), refs + rest),
        (Key(300, ItemType.INODE_EXTREF, 5), extrefs),
        (Key(301, ItemType.INODE_REF, 257), InodeRef(8, 1, b"x").pack()),
    ]
    found, columns = TAKES["names"](leaf_of(items, 0), facts(said))
    column = columns["name"]
    assert isinstance(column, Slices)
    assert column.cut().to_list() == [*names, b"x", *names]
    assert np.asarray(columns["parent"]).tolist() == [256] * len(names) + [257] + [9] * len(names)
    assert len(said) == bool(rest)
    assert len(found.leaf) == 2 * len(names) + 1


def test_a_length_that_lies_ends_the_payload_and_not_its_neighbour() -> None:
    said: list[str] = []
    liar = DirItem.unpack(bytes(DirItem.SIZE)).replace(name_len=1, name=b"a").pack()
    cut = liar[:27] + b"\xff\xff" + liar[29:]
    items = [
        (Key(256, ItemType.DIR_ITEM, 1), liar + cut),
        (Key(256, ItemType.DIR_ITEM, 2), cut),
        (Key(256, ItemType.DIR_ITEM, 3), liar),
    ]
    found, columns = TAKES["names"](leaf_of(items, 0), facts(said))
    assert found.offset.tolist() == [1, 3]
    assert found.position.tolist() == [0, len(liar) + 2 * len(cut)]
    assert isinstance(columns["name"], Slices)
    assert columns["name"].cut().to_list() == [b"a", b"a"]
    assert said == [
        "leaf 0, item (256 84 2): its 31 bytes end inside a structure",
        "leaf 0, item (256 84 1): its 62 bytes end inside a structure",
    ]


@given(bitmaps=st.lists(st.binary(max_size=40), max_size=4))
def test_runs_of_bits_are_those_counted_bit_by_bit(bitmaps: list[bytes]) -> None:
    items = [(Key(n << 40, ItemType.FREE_SPACE_BITMAP, 1 << 30), bitmap) for n, bitmap in enumerate(bitmaps)]
    _, columns = TAKES["free_space"](leaf_of(items, 0), facts([]))
    expected = [
        ((n << 40) + first * 4096, count * 4096) for n, bitmap in enumerate(bitmaps) for first, count in runs(bitmap)
    ]
    found = (np.asarray(columns[name]).tolist() for name in ("logical", "length"))
    assert list(zip(*found, strict=True)) == expected


def test_a_forged_image_loses_only_what_is_forged(demo_image: str, forged: str) -> None:
    def forge(items: MutableMapping[Key, bytes]) -> None:
        inode = min(key for key in items if key.type == ItemType.INODE_ITEM)
        items[inode] = items[inode][:100]
        extent = min(key for key in items if key.type == ItemType.EXTENT_DATA and len(items[key]) == FileExtent.SIZE)
        items[extent] = FileExtent.unpack(items[extent]).replace(encryption=1).pack()
        xattr = min(key for key in items if key.type == ItemType.XATTR_ITEM)
        items[xattr] += b"rest"

    edit_leaf(forged, TreeId.FS_TREE, forge)
    lost: dict[str, int] = {"inodes": 1, "file_extents": 1}
    said: list[str] = []
    with open_image(demo_image) as image:
        before = build(image, list(RELATIONS))
    with open_image(forged, warn=said.append) as image:
        after = build(image, list(RELATIONS))
    for name, table in before.items():
        count: Any = [len(next(iter(each[name].values()))) for each in (before, after)]
        assert count[0] - count[1] == lost.get(name, 0), name
        assert list(table) == list(after[name])
    assert len(said) == 3


def test_all_kinds_of_backrefs_are_told_apart_inline_and_keyed() -> None:
    head = ExtentItem(9, 7, ExtentFlag.DATA).pack()
    block = ExtentItem(2, 7, ExtentFlag.TREE_BLOCK).pack() + TreeBlockInfo(DiskKey(1, 2, 3), 4).pack()
    simple = [InlineRef(kind, 100 + kind).pack() for kind in (172, 176, 182)]
    data = InlineDataRef(178, 5, 257, 4096, 2).pack()
    shared = InlineSharedDataRef(184, 1 << 30, 3).pack()
    items = [
        (Key(1 << 20, ItemType.EXTENT_ITEM, 4096), b"".join([head, simple[0], data, shared])),
        (Key(1 << 20, ItemType.EXTENT_DATA_REF, 77), ExtentDataRef(6, 258, 8192, 4).pack()),
        (Key(1 << 20, ItemType.SHARED_DATA_REF, 1 << 31), SharedDataRef(5).pack()),
        (Key(2 << 20, ItemType.EXTENT_ITEM, 16384), block + simple[1]),
        (Key(2 << 20, ItemType.TREE_BLOCK_REF, 8), b""),
        (Key(3 << 20, ItemType.METADATA_ITEM, 1), ExtentItem(2, 7, ExtentFlag.TREE_BLOCK).pack() + simple[2]),
        (Key(3 << 20, ItemType.SHARED_BLOCK_REF, 1 << 32), b""),
    ]
    said: list[str] = []
    leaf = leaf_of(items, 0)
    assert rows("backrefs", leaf, said) == [
        (1 << 20, "owner", True, 272, 0, 0, 0, 1),
        (1 << 20, "extent_data", True, 5, 0, 257, 4096, 2),
        (1 << 20, "shared_data", True, 0, 1 << 30, 0, 0, 3),
        (2 << 20, "tree_block", True, 276, 0, 0, 0, 1),
        (3 << 20, "shared_block", True, 0, 282, 0, 0, 1),
        (1 << 20, "extent_data", False, 6, 0, 258, 8192, 4),
        (1 << 20, "shared_data", False, 0, 1 << 31, 0, 0, 5),
        (2 << 20, "tree_block", False, 8, 0, 0, 0, 1),
        (3 << 20, "shared_block", False, 0, 1 << 32, 0, 0, 1),
    ]
    assert rows("extents", leaf, said) == [
        (1 << 20, 4096, "data", 0, 9, 7, 1),
        (2 << 20, 16384, "tree block", 4, 2, 7, 2),
        (3 << 20, 16384, "tree block", 1, 2, 7, 2),
    ]
    assert said == []


def rows(name: str, leaf: LeafBatch, said: list[str]) -> list[tuple[Any, ...]]:
    """Return what a relation has of a leaf, in the order of its columns."""
    _, columns = TAKES[name](leaf, facts(said))
    values = []
    for column in RELATIONS[name].columns:
        plain: list[Any] = np.asarray(columns[column.name]).tolist()
        values.append([column.words[code] for code in plain] if column.words else plain)
    return list(zip(*values, strict=True))


def test_items_under_a_wrong_objectid_are_none() -> None:
    wrong = [(Key(256, ItemType.ORPHAN_ITEM, 300), b""), (Key(256, ItemType.EXTENT_CSUM, 1 << 20), bytes(8))]
    right = [(Key(TreeId.ORPHAN, ItemType.ORPHAN_ITEM, 301), b"")]
    right += [(Key(TreeId.EXTENT_CSUM, ItemType.EXTENT_CSUM, 2 << 20), bytes(8))]
    leaf = leaf_of([*wrong, *right], 0)
    assert rows("orphans", leaf, []) == [(301,)]
    assert rows("csums", leaf, []) == [(2 << 20, 8192)]


def test_stripes_that_a_chunk_lacks_are_reported() -> None:
    chunk = Chunk(1 << 30, 2, 65536, 1, 0, 0, 0, 1, 1, (Stripe(1, 1 << 20, bytes(16)),)).pack()
    says_five = chunk[:44] + (5).to_bytes(2, "little") + chunk[46:]
    items = [(Key(256, ItemType.CHUNK_ITEM, 1 << 20), says_five), (Key(256, ItemType.CHUNK_ITEM, 2 << 20), chunk)]
    said: list[str] = []
    _, columns = TAKES["stripes"](leaf_of(items, 0), facts(said))
    assert np.asarray(columns["chunk"]).tolist() == [1 << 20, 2 << 20]
    assert said == [f"leaf 0, item (256 228 {1 << 20}): of its 5 stripes 1 are there"]


@pytest.fixture
def forged(demo_image: str, tmp_path: Path) -> str:
    return copy_sparse([demo_image], str(tmp_path / "forged"))[0]


def test_a_block_that_cannot_be_read_is_no_tree_block(forged: str) -> None:
    with open_image(forged) as image:
        before = build(image, ["tree_blocks"])["tree_blocks"]["logical"].tolist()
        lost = image.tree(TreeId.CSUM_TREE).root.logical
        with open(forged, "r+b") as file:
            for place in image.volume.chunk_map.locate(lost).copies:
                file.seek(place.physical + 8192)  # the header stays as it is
                file.write(b"\xff" * 100)
    said: list[str] = []
    with open_image(forged, warn=said.append) as image:
        after = build(image, ["tree_blocks"])["tree_blocks"]["logical"].tolist()
    assert before.count(lost) == 1
    assert after == [logical for logical in before if logical != lost]
    assert len(said) == 1


def test_without_a_root_tree_there_is_what_the_superblock_leads_to(forged: str) -> None:
    with open_image(forged) as image:
        before = build(image, list(RELATIONS))
        places = image.volume.chunk_map.locate(image.root_tree.root.logical).copies
        with open(forged, "r+b") as file:
            for place in places:
                file.seek(place.physical)
                file.write(bytes(16384))
    said: list[str] = []
    with open_image(forged, warn=said.append) as image:
        after = build(image, list(RELATIONS))
    for name, table in after.items():
        column = next(iter(table))
        left = before[name][column].tolist() if name in ("superblock", "devices", "chunks", "stripes") else []
        assert table[column].tolist() == left or name in ("tree_blocks", "physical")
    assert after["tree_blocks"]["owner"].tolist() == [TreeId.CHUNK_TREE]
    assert said


def test_ranges_beyond_all_addresses_are_reported(forged: str) -> None:
    """Whoever asks for the end of a range in SQL would be refused otherwise, for one bad item among thousands."""

    def lengthen(items: MutableMapping[Key, bytes]) -> None:
        key = max(key for key in items if key.type == ItemType.EXTENT_ITEM)
        items[key._replace(offset=(1 << 64) - 4096)] = items.pop(key)

    ends = "select max(logical + length) from extents"
    with open_image(forged) as image:
        before = build(image, ["extents"])["extents"]
    edit_leaf(forged, TreeId.EXTENT_TREE, lengthen)
    said: list[str] = []
    with open_image(forged, warn=said.append) as image:
        after = build(image, ["extents"])["extents"]
        assert next(iter(query(image, ends).rows))[0] < 1 << 63
    assert len(after["logical"]) == len(before["logical"]) - 1
    assert [each for each in said if "ends beyond all addresses" in each]


def test_a_subvolume_that_is_being_freed_has_no_rows(forged: str) -> None:
    def drop(items: MutableMapping[Key, bytes]) -> None:
        key = max(key for key in items if key[:2] == (257, ItemType.ROOT_ITEM))
        items[key] = RootItem.unpack(items[key]).replace(refs=0, drop_progress=DiskKey(257, 1, 0)).pack()

    edit_leaf(forged, TreeId.ROOT_TREE, drop)
    with open_image(forged) as image:
        found = build(image, ["inodes", "subvolumes", "roots", "tree_blocks"])
        assert set(found["inodes"]["subvolume"].tolist()) == {5, 256}
        assert found["subvolumes"]["id"].tolist() == [5, 256, 257]
        assert 257 in found["roots"]["drop_objectid"].tolist()
        assert image.subvolume(257).root.bytenr not in found["tree_blocks"]["logical"].tolist()


def test_an_unknown_inline_reference_ends_the_item() -> None:
    said: list[str] = []
    ref = InlineDataRef(ItemType.EXTENT_DATA_REF, 5, 257, U64_MAX, 2).pack()
    payload = (3).to_bytes(8, "little") + bytes(8) + (1).to_bytes(8, "little") + ref + b"\x07" + ref
    _, columns = TAKES["backrefs"](leaf_of([(Key(1 << 20, ItemType.EXTENT_ITEM, 4096), payload)], 0), facts(said))
    values = {name: np.asarray(column).tolist() for name, column in columns.items()}
    assert values["offset"] == [-1]
    assert values["count"] == [2]
    assert len(said) == 1
