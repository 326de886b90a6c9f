"""Payloads: whatever the bytes, build gives them back; of well-formed items, parse gives exactly the records."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from btrimg.errors import CorruptError
from btrimg.ondisk import chunks, extents, inodes, roots
from btrimg.ondisk.constants import ExtentFlag, FileExtentType, ItemType
from btrimg.ondisk.items import ITEM_KINDS, ItemValue, build, kind_of, parse, records_of

if TYPE_CHECKING:
    from btrimg.ondisk.record import Record

T = ItemType
ONE = {  # items of one record, whatever its bytes
    T.UNTYPED: chunks.FreeSpaceHeader,
    T.INODE_ITEM: inodes.InodeItem,
    T.DIR_LOG_ITEM: inodes.DirLogItem,
    T.DIR_LOG_INDEX: inodes.DirLogItem,
    T.ROOT_ITEM: roots.RootItem,
    T.EXTENT_OWNER_REF: extents.ExtentOwnerRef,
    T.EXTENT_DATA_REF: extents.ExtentDataRef,
    T.SHARED_DATA_REF: extents.SharedDataRef,
    T.FREE_SPACE_INFO: chunks.FreeSpaceInfo,
    T.DEV_EXTENT: chunks.DevExtent,
    T.DEV_ITEM: chunks.DevItem,
    T.REMAP: chunks.RemapItem,
    T.REMAP_BACKREF: chunks.RemapItem,
    T.QGROUP_STATUS: roots.QgroupStatus,
    T.QGROUP_INFO: roots.QgroupInfo,
    T.QGROUP_LIMIT: roots.QgroupLimit,
    T.TEMPORARY_ITEM: chunks.BalanceItem,
    T.PERSISTENT_ITEM: chunks.DevStats,
    T.DEV_REPLACE: chunks.DevReplace,
}
OPAQUE = {
    T.VERITY_DESC_ITEM,
    T.VERITY_MERKLE_ITEM,
    T.ORPHAN_ITEM,
    T.CSUM_ITEM,
    T.EXTENT_CSUM,
    T.TREE_BLOCK_REF,
    T.EXTENT_REF_V0,
    T.SHARED_BLOCK_REF,
    T.FREE_SPACE_EXTENT,
    T.FREE_SPACE_BITMAP,
    T.IDENTITY_REMAP,
    T.QGROUP_RELATION,
    T.STRING_ITEM,
}
INLINE_REFS: dict[ItemType, type[Record]] = {
    T.TREE_BLOCK_REF: extents.InlineRef,
    T.SHARED_BLOCK_REF: extents.InlineRef,
    T.EXTENT_OWNER_REF: extents.InlineRef,
    T.EXTENT_DATA_REF: extents.InlineDataRef,
    T.SHARED_DATA_REF: extents.InlineSharedDataRef,
}
u16, u64 = st.integers(0, (1 << 16) - 1), st.integers(0, (1 << 64) - 1)
names = st.binary(max_size=255)


def fixed(cls: type[Record]) -> st.SearchStrategy[Any]:
    """Give any value of a record that has no varying part."""
    return st.binary(min_size=cls.SIZE, max_size=cls.SIZE).map(cls.unpack)


def several(one: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.lists(one, min_size=1, max_size=5).map(tuple)


inode_refs = st.builds(lambda index, name: inodes.InodeRef(index, len(name), name), u64, names)
inode_extrefs = st.builds(lambda ino, i, name: inodes.InodeExtref(ino, i, len(name), name), u64, u64, names)
dir_items = st.builds(
    lambda head, name, data: head.replace(name_len=len(name), data_len=len(data), name=name, data=data),
    st.binary(min_size=25, max_size=25).map(lambda head: inodes.DirItem.unpack(head + bytes(5))),
    names,
    st.binary(max_size=600),
)
root_refs = st.builds(lambda ino, seq, name: roots.RootRef(ino, seq, len(name), name), u64, u64, names)
chunk_items = st.builds(
    lambda head, stripes: chunks.Chunk.unpack(
        head + len(stripes).to_bytes(2, "little") + bytes(2) + b"".join(stripe.pack() for stripe in stripes)
    ),
    st.binary(min_size=44, max_size=44),
    st.lists(fixed(chunks.Stripe), max_size=9),
)
inline_extents = st.builds(
    lambda head, data: extents.FileExtentInline.unpack(head + b"\0" + data),
    st.binary(min_size=20, max_size=20),
    st.binary(max_size=300),
)
file_extents = st.builds(
    lambda record, kind: record.replace(type=kind),
    fixed(extents.FileExtent),
    st.sampled_from([FileExtentType.REGULAR, FileExtentType.PREALLOC, 77]),
)
inline_refs = st.sampled_from(sorted(INLINE_REFS)).flatmap(
    lambda kind: fixed(INLINE_REFS[kind]).map(lambda record: record.replace(type=int(kind)))
)


@st.composite
def backref_items(draw: st.DrawFn, key_type: ItemType, tree_block: bool) -> tuple[Record, ...]:
    """Give an extent item of data or of a tree block, with inline references of every kind."""
    head = draw(fixed(extents.ExtentItem))
    flags = head.flags & ~int(ExtentFlag.TREE_BLOCK) | (ExtentFlag.TREE_BLOCK if tree_block else 0)
    records: list[Record] = [head.replace(flags=int(flags))]
    if tree_block and key_type == T.EXTENT_ITEM:
        records.append(draw(fixed(extents.TreeBlockInfo)))
    return (*records, *draw(st.lists(inline_refs, max_size=6)))


WELL_FORMED: dict[ItemType, list[st.SearchStrategy[tuple[Record, ...]]]] = {
    **{key_type: [fixed(cls).map(lambda record: (record,))] for key_type, cls in ONE.items()},
    T.INODE_REF: [several(inode_refs)],
    T.INODE_EXTREF: [several(inode_extrefs)],
    T.XATTR_ITEM: [several(dir_items)],
    T.DIR_ITEM: [several(dir_items)],
    T.DIR_INDEX: [st.tuples(dir_items)],
    T.EXTENT_DATA: [st.tuples(inline_extents), st.tuples(file_extents)],
    T.ROOT_BACKREF: [st.tuples(root_refs)],
    T.ROOT_REF: [st.tuples(root_refs)],
    T.EXTENT_ITEM: [
        backref_items(T.EXTENT_ITEM, tree_block=False),
        backref_items(T.EXTENT_ITEM, tree_block=True),
        st.tuples(fixed(extents.ExtentItemV0)),
    ],
    T.METADATA_ITEM: [backref_items(T.METADATA_ITEM, tree_block=True)],
    T.BLOCK_GROUP_ITEM: [st.tuples(fixed(chunks.BlockGroupItem)), st.tuples(fixed(chunks.BlockGroupItemV2))],
    T.CHUNK_ITEM: [st.tuples(chunk_items)],
    T.RAID_STRIPE: [several(fixed(chunks.RaidStride))],
    T.UUID_KEY_SUBVOL: [several(fixed(roots.UuidSubvolume))],
    T.UUID_KEY_RECEIVED_SUBVOL: [several(fixed(roots.UuidSubvolume))],
}
CASES = [
    pytest.param(key_type, strategy, id=f"{key_type.name}-{number}")
    for key_type, strategies in sorted(WELL_FORMED.items())
    for number, strategy in enumerate(strategies)
]


def test_every_key_type_is_tested() -> None:
    assert set(WELL_FORMED) | OPAQUE == set(ITEM_KINDS)
    assert not set(WELL_FORMED) & OPAQUE


@given(st.integers(0, 255), st.binary(max_size=600))
def test_build_gives_back_any_bytes_of_any_type(key_type: int, payload: bytes) -> None:
    assert build(parse(key_type, payload)) == payload


@pytest.mark.parametrize("key_type", [*ITEM_KINDS, 2, 255])
@given(payload=st.binary(max_size=600))
def test_build_gives_back_any_bytes(key_type: int, payload: bytes) -> None:
    assert build(parse(key_type, payload)) == payload


@pytest.mark.parametrize(("key_type", "strategy"), CASES)
@given(data=st.data(), cut=st.integers(0, 40))
def test_parse_gives_the_records_that_were_packed(
    key_type: ItemType, strategy: st.SearchStrategy[tuple[Record, ...]], data: st.DataObject, cut: int
) -> None:
    records = data.draw(strategy)
    payload = b"".join(record.pack() for record in records)
    value = parse(key_type, payload)
    assert value == ItemValue(records)
    assert [type(record) for record in value.records] == [type(record) for record in records]
    assert {type(record) for record in records} <= set(kind_of(key_type).records)
    assert build(value) == payload
    shorter = payload[: len(payload) - cut]
    assert build(parse(key_type, shorter)) == shorter


@pytest.mark.parametrize("key_type", [*OPAQUE, 2, 255])
def test_opaque_payloads_are_all_tail(key_type: int) -> None:
    assert parse(key_type, b"anything") == ItemValue((), b"anything")


@pytest.mark.parametrize(
    ("key_type", "cls", "length", "read"),
    [
        (T.ROOT_ITEM, roots.RootItem, 239, 239),
        (T.ROOT_ITEM, roots.RootItem, 400, 400),
        (T.QGROUP_STATUS, roots.QgroupStatus, 32, 32),
        (T.PERSISTENT_ITEM, chunks.DevStats, 0, 0),
        (T.PERSISTENT_ITEM, chunks.DevStats, 24, 24),
        (T.PERSISTENT_ITEM, chunks.DevStats, 27, 27),
        (T.PERSISTENT_ITEM, chunks.DevStats, 56, 40),
    ],
)
def test_growable_items_may_be_shorter_or_longer(key_type: ItemType, cls: type[Record], length: int, read: int) -> None:
    payload = bytes(range(1, 240)) * 2
    payload = payload[:length]
    value = parse(key_type, payload)
    assert value == ItemValue((cls.unpack(payload + bytes(500)),), payload[read:], max(cls.SIZE - length, 0))
    assert build(value) == payload
    assert records_of(cls, key_type, payload) == value.records


def test_a_legacy_root_item_reads_as_one_without_uuids() -> None:
    full = roots.RootItem.unpack(bytes(range(256)) + bytes(range(183)))
    (legacy,) = records_of(roots.RootItem, T.ROOT_ITEM, full.pack()[:239])
    assert (legacy.bytenr, legacy.level, legacy.generation_v2, legacy.uuid) == (full.bytenr, full.level, 0, bytes(16))
    with pytest.raises(CorruptError, match="ROOT_ITEM of 238 bytes is not RootItem"):
        records_of(roots.RootItem, T.ROOT_ITEM, full.pack()[:238])


def test_slack_behind_the_records_stays() -> None:
    ref = inodes.InodeRef(5, 3, b"abc")
    assert parse(T.INODE_REF, ref.pack() * 2 + b"slack") == ItemValue((ref, ref), b"slack")
    refs = (extents.ExtentItem(1, 7, 1), extents.InlineDataRef(178, 5, 257, 0, 1))
    payload = b"".join(record.pack() for record in refs)
    assert parse(T.EXTENT_ITEM, payload + b"\xff" * 9) == ItemValue(refs, b"\xff" * 9)
    assert parse(T.EXTENT_ITEM, payload + b"\xb2" * 28) == ItemValue(refs, b"\xb2" * 28)


def test_records_of_refuses_a_tail_nothing_and_another_class() -> None:
    ref = inodes.InodeRef(5, 3, b"abc")
    assert records_of(inodes.InodeRef, T.INODE_REF, ref.pack() * 3) == (ref, ref, ref)
    with pytest.raises(CorruptError, match="INODE_REF of 17 bytes ends with 4 that do not fit"):
        records_of(inodes.InodeRef, T.INODE_REF, ref.pack() + b"tail")
    with pytest.raises(CorruptError, match="INODE_REF of 0 bytes is not InodeRef"):
        records_of(inodes.InodeRef, T.INODE_REF, b"")
    with pytest.raises(CorruptError, match="INODE_REF of 13 bytes is not DirItem"):
        records_of(inodes.DirItem, T.INODE_REF, ref.pack())
    with pytest.raises(CorruptError, match="UNKNOWN of 4 bytes is not DirItem"):
        records_of(inodes.DirItem, 2, b"1234")
