"""Every item of every tree that the kernel wrote is taken apart and put together again."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pytest

from btrimg.filesystem.forest import item_roots, superblock_roots
from btrimg.filesystem.image import open_image
from btrimg.ondisk.constants import ItemType
from btrimg.ondisk.items import ITEM_KINDS, build, parse
from btrimg.trees.tree import Tree

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from support.images import KernelImage

pytestmark = [pytest.mark.kernel, pytest.mark.progs]

#: Key types that every image of ``support.populate`` has.
ALWAYS = {
    *(ItemType.INODE_ITEM, ItemType.INODE_REF, ItemType.INODE_EXTREF, ItemType.XATTR_ITEM, ItemType.DIR_ITEM),
    *(ItemType.DIR_INDEX, ItemType.EXTENT_DATA, ItemType.EXTENT_CSUM, ItemType.ROOT_ITEM, ItemType.ROOT_BACKREF),
    *(ItemType.ROOT_REF, ItemType.EXTENT_ITEM),
    *(ItemType.BLOCK_GROUP_ITEM, ItemType.DEV_EXTENT, ItemType.DEV_ITEM, ItemType.CHUNK_ITEM),
    *(ItemType.PERSISTENT_ITEM, ItemType.UUID_KEY_SUBVOL),
}


@pytest.mark.parametrize(
    ("options", "more"),
    [
        ({}, {ItemType.METADATA_ITEM, ItemType.FREE_SPACE_INFO, ItemType.FREE_SPACE_EXTENT}),
        ({"features": ("^skinny-metadata",)}, {ItemType.FREE_SPACE_INFO}),
        ({"mkfs_options": ("--runtime-features", "^free-space-tree")}, {ItemType.METADATA_ITEM}),
        (
            {"mkfs_options": ("--runtime-features", "quota")},
            {ItemType.QGROUP_STATUS, ItemType.QGROUP_INFO, ItemType.QGROUP_LIMIT},
        ),
        ({"profile": "raid6", "csum": "sha256"}, {ItemType.METADATA_ITEM}),
    ],
    ids=["default", "old metadata", "space cache", "quota", "raid6"],
)
def test_every_item_parses_whole_and_builds_back(
    options: dict[str, Any], more: set[ItemType], kernel_image: Callable[..., KernelImage]
) -> None:
    seen: Counter[int] = Counter()
    with open_image(kernel_image(**options).devices) as image:
        for root in (*superblock_roots(image), *item_roots(image)):
            for key, payload in Tree(image.blocks, root.at).items():
                value = parse(key.type, payload)
                assert build(value) == payload
                assert key.type in ITEM_KINDS
                if ITEM_KINDS[key.type].records:
                    assert value.records, key
                    assert value.tail == b"", key
                    assert value.lacking == (8 if key.type == ItemType.QGROUP_STATUS else 0), "32 bytes before v6.7"
                seen[key.type] += 1
    assert set(seen) >= ALWAYS | more, {ItemType(kind).name for kind in (ALWAYS | more) - set(seen)}
    assert sum(seen.values()) > 6_000
