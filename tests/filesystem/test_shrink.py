"""How small a device could be made: by hand here, by btrfs-progs in tests/render/test_inspect_progs.py."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from support.forge import edit_leaf
from support.images import copy_sparse

from btrimg.errors import NotFoundError
from btrimg.filesystem.image import open_image
from btrimg.filesystem.shrink import min_device_size
from btrimg.ondisk.blocks import Key
from btrimg.ondisk.chunks import DevExtent
from btrimg.ondisk.constants import ItemType, TreeId

if TYPE_CHECKING:
    from collections.abc import MutableMapping, Sequence
    from pathlib import Path

MIB = 1 << 20


@pytest.mark.parametrize(
    ("extents", "expected"),
    [
        ([(1, 8), (9, 8)], 17),
        ([(1, 8), (20, 8)], 17 + 8 + 32),  # the second moves into the hole of 11 MiB
        ([(1, 8), (12, 8)], 20),  # the hole of 3 MiB is too small
        ([(1, 8), (20, 2), (30, 8), (50, 4)], 23 + 8 + 32),  # two move, one after the other: 4 and 8 into 11 and 8
        ([(1, 8), (20, 2), (28, 8), (50, 9)], 28 + 9 + 32),  # 9 moves into 11; what is left of it is too small for 8
        ([(1, 50), (80, 20)], 71 + 20 + 20 + 32),  # the hole holds the superblock at 64 MiB
        ([], 1),
    ],
)
def test_extents_beyond_the_sum_move_into_holes(
    demo_image: str, tmp_path: Path, extents: Sequence[tuple[int, int]], expected: int
) -> None:
    image = copy_sparse([demo_image], str(tmp_path))[0]

    def change(items: MutableMapping[Key, bytes]) -> None:
        for key in [key for key in items if key.type == ItemType.DEV_EXTENT]:
            del items[key]
        for start, length in extents:
            extent = DevExtent(3, 256, 0, length * MIB, bytes(16))
            items[Key(1, ItemType.DEV_EXTENT, start * MIB)] = extent.pack()

    edit_leaf(image, TreeId.DEV_TREE, change)
    with open_image(image) as opened:
        assert min_device_size(opened, 1) == expected * MIB


def test_a_device_that_is_not_there_has_no_size(demo_image: str) -> None:
    with open_image(demo_image) as image, pytest.raises(NotFoundError, match="no device 7"):
        min_device_size(image, 7)
