"""The v1 space cache against what the kernel leaves out of it: the places of superblocks, in every kind of profile."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from support import images, kernel
from support.forge import corrupt
from support.populate import Filler

from btrimg.check import freespace
from btrimg.check.rule import rule
from btrimg.check.run import check
from btrimg.filesystem.image import open_image
from btrimg.filesystem.spacecache import cached_free_space
from btrimg.trees import batches

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from btrimg.filesystem.image import Image


def cached(directory: str, profile: str) -> Sequence[str]:
    """Leave space caches with holes in them; the kernel makes them for block groups from 100 MiB on."""
    devices = images.new_devices(directory, images.DEVICES[profile], 2048 * images.MIB)
    images.mkfs(devices, profile, options=["-R", "^free-space-tree"])
    with kernel.mount(devices, options=["space_cache=v1"]) as top:
        fill = Filler(top)
        for number in range(30):
            fill.write(b"%d" % number, fill.noise(1_000_000))
        fill.sync()
        for number in range(0, 30, 3):
            os.unlink(fill.path(b"%d" % number))
    return devices


@pytest.mark.kernel
@pytest.mark.parametrize("profile", ["dup", "raid10", "raid6"])
def test_the_cache_lacks_the_places_of_superblocks_and_no_more(
    profile: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    devices = cached(str(tmp_path), profile)
    with open_image(devices) as image:
        assert len(list(cached_free_space(image))) > 10
        assert judged(image) == set()
        monkeypatch.setattr(freespace, "superblock_ranges", lambda _chunk: iter(()))
        assert judged(image) == {"space-cache-missing"}


def judged(image: Image) -> set[str]:
    """Return which rules of the cache fire."""
    return {finding.rule.code for finding in check(image, [rule("space-cache-missing"), rule("space-cache-used")])}


@pytest.mark.parametrize("batch_bytes", [1 << 16, 1 << 24])
def test_heads_of_block_groups_stand_in_their_own_tree_whatever_is_read_with_it(
    batch_bytes: int, forged: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    corrupt(forged, "5/300.FREE_SPACE_INFO.4096=0x0000000000000000")
    monkeypatch.setattr(batches, "BATCH_BYTES", batch_bytes)
    chosen = [rule(code) for code in ("free-space-info-orphan", "item-tree")]
    with open_image(forged) as image:
        found = [(each.rule.code, each.row.get("objectid", each.row.get("logical"))) for each in check(image, chosen)]
    assert [each for each in found if each[0] == "item-tree" or each[1] == 300] == [("item-tree", 300)]
