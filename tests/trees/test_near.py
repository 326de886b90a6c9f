"""A tree that remembers where it was asked answers as one that does not."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from btrimg.errors import BlockError
from btrimg.filesystem.image import open_image
from btrimg.ondisk.blocks import Key
from btrimg.trees.near import NearTree, near
from btrimg.trees.overlay import OverlayTree

if TYPE_CHECKING:
    from collections.abc import Iterator

    from btrimg.trees.tree import Tree


@pytest.fixture(scope="module")
def trees(demo_image: str) -> Iterator[list[Tree]]:
    """Give trees of one level and of several."""
    with open_image(demo_image) as image:
        yield [image.root_tree, *(image.tree(number) for number in (2, 5, 7)), image.subvolume(256).tree]


def test_every_question_has_the_same_answer(trees: list[Tree]) -> None:
    chance = random.Random(1)
    for tree in trees:
        remembering = NearTree(tree.blocks, tree.root)
        keys = [key for key, _ in tree.items()]
        assert list(remembering.items()) == list(tree.items())
        for _ in range(300):
            first, last = (
                key._replace(offset=max(key.offset + chance.choice((-1, 0, 1)), 0)) for key in chance.choices(keys, k=2)
            )
            assert remembering.find(first) == tree.find(first)
            assert remembering.floor(first) == tree.floor(first)
            assert list(remembering.items(first, last)) == list(tree.items(first, last))
        assert remembering.floor(Key(0, 0, 0)) == tree.floor(Key(0, 0, 0))


def test_places_are_those_of_the_payloads(trees: list[Tree]) -> None:
    for tree in trees:
        keys = [key for key, _ in tree.items()]
        asked = [key._replace(offset=key.offset + step) for key in keys[:500] for step in (0, 1)]
        for key, place in zip(asked, NearTree(tree.blocks, tree.root).places(asked), strict=True):
            payload = tree.find(key)
            assert (place[0].data[place[1].start : place[1].stop] if place else None) == payload


def test_a_bad_block_is_an_error_each_time(trees: list[Tree]) -> None:
    tree = trees[-1]
    broken = NearTree(tree.blocks, tree.root._replace(generation=(tree.root.generation or 0) + 1))
    for _ in range(2):
        with pytest.raises(BlockError):
            broken.find(Key(256, 1, 0))


def test_changes_that_lie_over_a_tree_stay_in_sight(trees: list[Tree]) -> None:
    overlay = OverlayTree(trees[-1])
    assert near(overlay) is overlay
    assert isinstance(near(trees[-1]), NearTree)
