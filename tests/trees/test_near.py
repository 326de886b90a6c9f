"""A tree that remembers where it was asked answers as one that does not."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest
from support.program import btrimg

from btrimg.errors import BlockError
from btrimg.filesystem.image import open_image
from btrimg.ondisk.blocks import KEY_MAX, KEY_MIN, Key
from btrimg.trees.near import NearTree, near
from btrimg.trees.overlay import OverlayTree
from btrimg.volume.device import Device
from btrimg.volume.volume import Volume

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

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


def test_a_walk_expects_the_leaves_that_follow_each_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe, path = tmp_path / "recipe.toml", str(tmp_path / "image")
    recipe.write_text("".join(f'[[do]]\nfile = "/{"long-name-" * 20}{i}"\ntext = "1"\n' for i in range(1200)))
    done = btrimg("build", recipe, "-o", path, "--nodesize", "4K")
    assert done.returncode == 0, done.stderr
    with open_image(path) as image:
        tree = image.subvolume(5).tree
        leaves = [leaf.header.bytenr for leaf, _ in NearTree(tree.blocks, tree.root).leaves(KEY_MIN, KEY_MAX)]
        expected: list[int] = []
        monkeypatch.setattr(Volume, "expect", lambda _, blocks: expected.extend(blocks))
        assert len(list(NearTree(tree.blocks, tree.root).items())) > 1200 * 4
    # Below each of the nodes, all but the first leaf and the second, which shows that it goes on.
    assert len(leaves) > 200
    assert len(expected) == len(set(expected)) > 0.9 * len(leaves)
    assert {*expected} < {*leaves}


def test_expected_blocks_are_asked_for_in_few_pieces_and_bad_ones_are_not(
    demo_image: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[int, int]] = []
    monkeypatch.setattr(Device, "expect", lambda _, length, offset: asked.append((length, offset)))
    with open_image(demo_image) as image:
        volume, size = image.volume, image.volume.nodesize
        first = image.root_tree.root.logical
        (place, *_) = volume.chunk_map.locate(first).copies
        volume.expect([first + 2 * size, first, 1 << 60, first + size])
    assert asked == [(3 * size, place.physical)]
