"""Items that accounts of space are read from, damaged at random: an error says so, and nothing else happens."""

from __future__ import annotations

import random
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from btrimg.errors import BtrimgError
from btrimg.filesystem.image import open_image
from btrimg.ondisk.blocks import Key
from btrimg.ondisk.constants import BlockGroup, ItemType
from btrimg.trees.overlay import OverlayTree
from btrimg.write.space import Space

if TYPE_CHECKING:
    from btrimg.filesystem.image import Image

READ = {
    ItemType.BLOCK_GROUP_ITEM,
    ItemType.EXTENT_ITEM,
    ItemType.METADATA_ITEM,
    ItemType.DEV_ITEM,
    ItemType.DEV_EXTENT,
    ItemType.FREE_SPACE_INFO,
    ItemType.FREE_SPACE_EXTENT,
}
ODD = (0, 1, 4095, 4096, 1 << 32, (1 << 63) - 4096, 1 << 63, (1 << 64) - 1)


def damage(tree: OverlayTree, rng: random.Random) -> None:
    """Change the key or some bytes of one of the items that are read for space."""
    key, payload = rng.choice([item for item in tree.items() if item[0].type in READ])
    tree.delete(key)
    what = rng.randrange(4)
    if what == 0:
        key = key._replace(offset=rng.choice(ODD))
    elif what == 1:
        key = Key(rng.choice(ODD), key.type, key.offset)
    elif what == 2:
        at = 8 * rng.randrange(max(len(payload) // 8, 1))
        payload = payload[:at] + rng.choice(ODD).to_bytes(8, "little") + payload[at + 8 :]
    else:
        payload = payload[: rng.randrange(len(payload) + 1)]
    tree.put(key, payload)


def use(image: Image, seed: int, *, space_tree: bool) -> None:
    rng, trees = random.Random(seed), {}
    for tree_id in (2, 3, 4, 10):
        trees[tree_id] = OverlayTree(image.tree(tree_id))
    if not space_tree:
        flags = image.superblock.compat_ro_flags & ~3
        image.volume.superblock = image.superblock.replace(compat_ro_flags=flags)
    for tree_id in rng.choices([2, 3, 4, 10], k=rng.randrange(1, 3)):
        damage(trees[tree_id], rng)
    space = Space(image.volume, trees.__getitem__)
    for _ in range(3):
        runs = space.allocate_data(rng.choice([4096, 1 << 20, 1 << 26]))
        for run in runs:
            chunk = image.volume.chunk_map.find(run.logical)
            assert run.logical + run.length <= chunk.end
            assert not (run.logical | run.length) % 4096
        space.allocate_blocks(rng.choice([BlockGroup.METADATA, BlockGroup.SYSTEM]), 7)
        space.release(*rng.choice(runs))
        space.release(rng.choice([chunk.logical for chunk in image.volume.chunk_map]), 4096)
        space.record()
        space.committed()


@pytest.mark.parametrize("space_tree", [True, False])
@settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture], max_examples=60)
@given(seed=st.integers(0, 1 << 32))
def test_damaged_accounts_are_refused_or_go_well(demo_image: str, space_tree: bool, seed: int) -> None:
    with open_image(demo_image, warn=lambda _text: None) as image, suppress(BtrimgError):
        use(image, seed, space_tree=space_tree)
