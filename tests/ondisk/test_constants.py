"""Numbers of the format: spot values from the kernel's headers, and that unknown ones are not lost."""

from __future__ import annotations

import pytest

from btrimg.ondisk import constants as c
from btrimg.ondisk.items import ITEM_KINDS


def test_magic_is_the_text_on_disk() -> None:
    assert c.MAGIC.to_bytes(8, "little") == b"_BHRfS_M"
    assert c.MAGIC == 0x4D5F53665248425F


def test_superblocks_stand_at_64_kib_64_mib_and_256_gib() -> None:
    assert c.SUPERBLOCK_OFFSETS == (65536, 67108864, 274877906944)


@pytest.mark.parametrize(
    ("number", "value"),
    [
        (c.TreeId.REMAP_TREE, 13),
        (c.TreeId.BALANCE, 0xFFFFFFFFFFFFFFFC),
        (c.TreeId.TREE_LOG, 0xFFFFFFFFFFFFFFFA),
        (c.TreeId.DATA_RELOC_TREE, 0xFFFFFFFFFFFFFFF7),
        (c.TreeId.CSUM_CHANGE, 0xFFFFFFFFFFFFFFF3),
        (c.TreeId.LAST_FREE, 0xFFFFFFFFFFFFFF00),
        (c.TreeId.MULTIPLE, 0xFFFFFFFFFFFFFF01),
        (c.CompatRo.BLOCK_GROUP_TREE, 0x8),
        (c.Incompat.METADATA_UUID, 0x400),
        (c.Incompat.SIMPLE_QUOTA, 0x10000),
        (c.Incompat.REMAP_TREE, 0x20000),
        (c.SuperFlag.SEEDING, 0x100000000),
        (c.SuperFlag.CHANGING_META_CSUM, 0x10000000000),
        (c.BlockGroup.RAID1C4, 0x400),
        (c.BlockGroup.METADATA_REMAP, 0x1000),
        (c.ExtentFlag.FULL_BACKREF, 0x100),
        (c.InodeFlag.ROOT_ITEM_INIT, 0x80000000),
        (c.InodeFlag.VERITY, 0x100000000),
        (c.RootFlag.SUBVOL_DEAD, 1 << 48),
        (c.BalanceArgsFlag.USAGE_RANGE, 0x400),
        (c.QgroupLimitFlag.EXCL_CMPR, 0x20),
        (c.Compression.ZSTD, 3),
        (c.CsumType.BLAKE2B, 3),
        (c.FileType.XATTR, 8),
    ],
)
def test_values_are_the_kernels(number: int, value: int) -> None:
    assert number == value


def test_every_key_type_is_in_the_table_of_items() -> None:
    assert set(ITEM_KINDS) == set(c.ItemType)


def test_profile_mask_is_every_profile() -> None:
    mask = 0
    for flag in c.BlockGroup:
        if flag.name and flag.name.startswith(("RAID", "DUP")):
            mask |= flag
    assert mask == c.PROFILE_MASK


@pytest.mark.parametrize(
    "flags",
    [
        c.CompatRo,
        c.Incompat,
        c.SuperFlag,
        c.HeaderFlag,
        c.BlockGroup,
        c.ExtentFlag,
        c.InodeFlag,
        c.RootFlag,
        c.QgroupStatusFlag,
        c.QgroupLimitFlag,
        c.FreeSpaceFlag,
        c.BalanceFlag,
        c.BalanceArgsFlag,
    ],
)
def test_unknown_bits_survive(flags: type[c.Incompat]) -> None:
    bits = 1 << 63 | 1 << 55 | 1
    assert int(flags(bits)) == bits
    assert int(flags(bits) | flags(1 << 54)) == bits | 1 << 54
    assert bits & ~int(flags(1)) == 1 << 63 | 1 << 55
