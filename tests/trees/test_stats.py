"""Seeks and clusters against a walk step by step; btrfs-progs judge in tests/render/test_inspect_progs.py."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from support.forge import write_block
from support.images import copy_sparse

from btrimg.errors import BlockError, CorruptError
from btrimg.filesystem.image import open_image
from btrimg.ondisk.constants import TreeId
from btrimg.trees.stats import _histogram, _Walk, tree_stats

if TYPE_CHECKING:
    from pathlib import Path

NODESIZE = 4096


class Slow(NamedTuple):
    """What a walk step by step counts."""

    seeks: Counter[int]
    forward: int
    clusters: Counter[int]


def slow_walk(nodes: list[tuple[int, list[int]]]) -> Slow:
    seeks: Counter[int] = Counter()
    clusters: Counter[int] = Counter()
    forward = 0
    for parent, children in nodes:
        last, run = parent, 1
        for child in children:
            if child == last + NODESIZE:
                run += 1
            else:
                seeks[abs(child - last - NODESIZE)] += 1
                forward += last < child
                if run > 1:
                    clusters[run * NODESIZE] += 1
                run = 1
            last = child
    return Slow(seeks, forward, clusters)


ADDRESS = st.integers(0, 20).map(lambda block: block * NODESIZE)  # close, so that neighbours are frequent
NODE = st.tuples(ADDRESS, st.lists(ADDRESS, max_size=12))


@given(st.lists(st.lists(NODE, max_size=6), max_size=3))
def test_steps_are_those_of_a_walk(batches: list[list[tuple[int, list[int]]]]) -> None:
    walk = _Walk(NODESIZE, 0)
    for nodes in batches:
        counts = [len(children) for _, children in nodes]
        flat = [child for _, children in nodes for child in children]
        walk.step(*(np.array(column, np.int64) for column in ([parent for parent, _ in nodes], counts, flat)))
    expected = slow_walk([node for nodes in batches for node in nodes])
    assert dict(_histogram(walk.distances)) == expected.seeks
    assert dict(_histogram(walk.clusters)) == expected.clusters
    assert walk.forward == expected.forward
    assert walk.highest == max((child for nodes in batches for _, below in nodes for child in below), default=0)


def fail(error: CorruptError) -> None:
    raise error


def test_a_tree_of_one_leaf_has_its_inline_data_and_no_seeks(demo_image: str) -> None:
    with open_image(demo_image) as image:
        root = image.tree(TreeId.FS_TREE).root
        stats = tree_stats(image.blocks, root, fail, inline=True)
        assert stats == (image.volume.nodesize, (1,), 80, (), 0, (), root.logical, root.logical)
        assert tree_stats(image.blocks, root, fail, inline=False).inline_bytes == 0


def test_a_leaf_that_cannot_be_read_is_told_and_not_counted(demo_image: str, tmp_path: Path) -> None:
    broken = copy_sparse([demo_image], str(tmp_path))[0]
    with open_image(broken) as image:
        root = image.tree(TreeId.FS_TREE).root
        write_block(image, broken, root.logical, bytes(image.volume.nodesize))
    told: list[CorruptError] = []
    with open_image(broken) as image:
        stats = tree_stats(image.blocks, root, told.append, inline=True)
    assert (stats.nodes, stats.inline_bytes) == ((0,), 0)
    assert [type(error) for error in told] == [BlockError]
