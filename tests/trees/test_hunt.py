"""Roots found among all tree blocks; btrfs-find-root judges in tests/render/test_inspect_progs.py."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from support.images import copy_sparse

from btrimg.filesystem.image import open_image, root_tree_pointer
from btrimg.ondisk.constants import TreeId
from btrimg.trees.hunt import Found, candidates, hunt

if TYPE_CHECKING:
    from pathlib import Path

    from btrimg.errors import CorruptError


def fail(error: CorruptError) -> None:
    raise error


def test_of_each_generation_the_highest_level_may_be_the_root() -> None:
    low, high, higher = Found(100, 0, 7, 3), Found(300, 1, 7, 3), Found(200, 1, 7, 4)
    old, new = Found(900, 2, 6, 3), Found(50, 0, 8, 1)
    assert candidates([low, high, old, higher, new]) == [new, high, higher, old]
    assert candidates([]) == []


@pytest.mark.parametrize("tree", [TreeId.ROOT_TREE, TreeId.EXTENT_TREE, TreeId.CHUNK_TREE, TreeId.FS_TREE])
def test_the_root_in_use_is_found(demo_image: str, tree: int) -> None:
    with open_image(demo_image) as image:
        root = image.tree(tree).root
        best = candidates(hunt(image.blocks, tree, fail))[0]
    assert best[:3] == (root.logical, root.level, root.generation)


@pytest.mark.parametrize("broken_copies", [1, 2])
def test_one_sound_copy_is_enough(demo_image: str, tmp_path: Path, broken_copies: int) -> None:
    path = copy_sparse([demo_image], str(tmp_path))[0]
    with open_image(path) as image:
        root = root_tree_pointer(image.volume)
        copies = image.volume.chunk_map.locate(root.logical).copies
        whole = list(hunt(image.blocks, TreeId.ROOT_TREE, fail))
    assert len(copies) == 2
    with open(path, "r+b") as file:
        for copy in copies[:broken_copies]:
            file.seek(copy.physical + 3000)
            file.write(b"\xee" * 8)
    with open_image(path) as image:
        found = list(hunt(image.blocks, TreeId.ROOT_TREE, fail))
    lost = [each for each in whole if each.logical == root.logical and broken_copies == 2]
    assert [each for each in whole if each not in found] == lost
