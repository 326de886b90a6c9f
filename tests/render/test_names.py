from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from btrimg.ondisk.blocks import Key
from btrimg.ondisk.constants import U64_MAX, BlockGroup, Incompat, InodeFlag, ItemType, TreeId
from btrimg.render.names import (
    block_group_text,
    date_text,
    escape,
    flag_names,
    flags_text,
    key_text,
    objectid_name,
    printable,
)

U64 = st.integers(0, U64_MAX)


@pytest.mark.parametrize(
    ("key", "text"),
    [
        (Key(257, ItemType.INODE_ITEM, 0), "key (257 INODE_ITEM 0)"),
        (Key(5, ItemType.ROOT_ITEM, 0), "key (FS_TREE ROOT_ITEM 0)"),
        (Key(1, ItemType.DEV_ITEM, 7), "key (DEV_ITEMS DEV_ITEM 7)"),
        (Key(1, ItemType.DEV_EXTENT, 1 << 20), "key (1 DEV_EXTENT 1048576)"),
        (Key(256, ItemType.CHUNK_ITEM, 22020096), "key (FIRST_CHUNK_TREE CHUNK_ITEM 22020096)"),
        (Key(256, ItemType.INODE_ITEM, 0), "key (256 INODE_ITEM 0)"),
        (Key(0, ItemType.PERSISTENT_ITEM, 2), "key (DEV_STATS PERSISTENT_ITEM 2)"),
        (Key(TreeId.BALANCE, ItemType.TEMPORARY_ITEM, 0), "key (BALANCE TEMPORARY_ITEM 0)"),
        (Key(TreeId.TREE_RELOC, ItemType.ROOT_ITEM, 5), "key (TREE_RELOC ROOT_ITEM FS_TREE)"),
        (Key(TreeId.FREE_SPACE, ItemType.UNTYPED, 5), "key (FREE_SPACE UNTYPED 5)"),
        (Key(0, ItemType.UNTYPED, 0), "key (0 UNKNOWN.0 0)"),
        (Key(U64_MAX, 99, U64_MAX), "key (-1 UNKNOWN.99 -1)"),
        (Key(0, ItemType.QGROUP_INFO, 1 << 48 | 100), "key (0 QGROUP_INFO 1/100)"),
        (Key(257, ItemType.QGROUP_RELATION, 2 << 48 | 3), "key (0/257 QGROUP_RELATION 2/3)"),
        (Key(0xAB, ItemType.UUID_KEY_SUBVOL, 1), "key (0x00000000000000ab UUID_KEY_SUBVOL 0x0000000000000001)"),
        (Key(TreeId.EXTENT_CSUM, ItemType.EXTENT_CSUM, 4096), "key (EXTENT_CSUM EXTENT_CSUM 4096)"),
    ],
)
def test_keys_read_as_in_btrfs_progs(key: Key, text: str) -> None:
    assert key_text(key) == text


def test_log_fixup_is_the_one_tree_whose_name_btrfs_progs_shortens() -> None:
    assert objectid_name(TreeId.TREE_LOG_FIXUP) == "LOG_FIXUP"
    assert objectid_name(TreeId.TREE_LOG) == "TREE_LOG"


@given(U64, st.integers(0, 255), U64)
def test_every_key_has_a_text_of_one_line(objectid: int, key_type: int, offset: int) -> None:
    text = key_text(Key(objectid, key_type, offset))
    assert text.isascii()
    assert text.isprintable()
    assert len(text.split(" ")) == 4


def test_escaped_names_are_printable_and_tell_all_bytes_apart() -> None:
    assert escape(b"a b\\\n\x1b[31m\xff") == r"a\ b\\\n\e[31m\377"
    assert escape(b"\a\b\f\r\t\v\0\x7f") == r"\a\b\f\r\t\v\000\177"
    each = [escape(bytes([byte])) for byte in range(256)]
    assert len(set(each)) == 256
    assert all(text.isascii() and text.isprintable() for text in each)


def test_printable_ends_at_the_first_nul() -> None:
    assert printable(b"label \xe9\n\0garbage") == "label .."


def test_flags_keep_bits_without_a_name() -> None:
    assert flag_names(Incompat.ZONED | 1 << 40, Incompat) == ["ZONED", "UNKNOWN: 0x10000000000"]
    assert flags_text(0, InodeFlag) == "none"
    assert flags_text(InodeFlag.NODATASUM | InodeFlag.VERITY, InodeFlag) == "NODATASUM|VERITY"


def test_a_block_group_without_profile_bit_is_single() -> None:
    assert block_group_text(BlockGroup.DATA) == "DATA|single"
    assert block_group_text(BlockGroup.METADATA | BlockGroup.RAID1C3) == "METADATA|RAID1C3"
    assert block_group_text(BlockGroup.DATA | BlockGroup.METADATA | BlockGroup.DUP) == "DATA|METADATA|DUP"
    assert block_group_text(1 << 20) == "UNKNOWN: 0x100000|single"


def test_dates_are_in_utc_of_any_year() -> None:
    assert date_text(0) == "1970-01-01 00:00:00"
    assert date_text(-1) == "1969-12-31 23:59:59"
    assert date_text(1 << 33) == "2242-03-16 12:56:32"
    assert date_text((1 << 63) - 1).startswith("292277026596-12-04")
