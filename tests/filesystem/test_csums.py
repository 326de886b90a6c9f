"""The checksum tree as one array: items end where their sums end, and gaps have none."""

from __future__ import annotations

import pytest
from support.listed import ListedTree

from btrimg.errors import ChecksumError
from btrimg.filesystem.csums import Csums
from btrimg.ondisk.blocks import Key
from btrimg.ondisk.constants import U64_MAX, ItemType, TreeId

SECTOR = 4096


def sums(first: int, count: int, size: int) -> bytes:
    """Return made-up checksums of *count* sectors, each its sector's number."""
    return b"".join(number.to_bytes(size, "big") for number in range(first, first + count))


def array(size: int) -> Csums:
    """Return checksums of sectors 100 to 104, 105 to 107 and 110 to 119, in three items."""
    items = {
        Key(TreeId.EXTENT_CSUM, ItemType.EXTENT_CSUM, first * SECTOR): sums(first, count, size)
        for first, count in ((100, 5), (105, 3), (110, 10))
    }
    other = {Key(256, ItemType.INODE_ITEM, 0): bytes(160), Key(U64_MAX, ItemType.INODE_ITEM, 0): bytes(160)}
    return Csums(ListedTree(items | other), size, SECTOR)


@pytest.mark.parametrize("size", [4, 8, 32])
@pytest.mark.parametrize(
    ("first", "count"), [(100, 1), (104, 1), (104, 2), (100, 8), (102, 5), (105, 3), (107, 1), (110, 10), (119, 1)]
)
def test_checksums_of_a_range_come_from_every_item_that_it_touches(first: int, count: int, size: int) -> None:
    assert array(size).lookup(first * SECTOR, count * SECTOR) == sums(first, count, size)


@pytest.mark.parametrize(
    ("first", "count", "lacking"),
    [
        (99, 1, 99),
        (99, 2, 99),
        (0, 1, 0),
        (108, 1, 108),
        (107, 2, 108),
        (109, 2, 109),
        (120, 1, 120),
        (119, 2, 120),
        (500, 1, 500),
    ],
)
def test_a_sector_without_a_checksum_is_named(first: int, count: int, lacking: int) -> None:
    csums = array(4)
    for _ in range(2):  # the last item is remembered
        with pytest.raises(ChecksumError, match=f"data at logical {lacking * SECTOR} has no checksum"):
            csums.lookup(first * SECTOR, count * SECTOR)
    assert csums.lookup(110 * SECTOR, SECTOR) == sums(110, 1, 4)
