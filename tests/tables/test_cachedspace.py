"""The v1 space cache: what the kernel wrote, and what is made of a cache that is stale or damaged."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from support import images, odd
from support.dump_text import run_progs
from support.forge import edit_leaf

from btrimg.filesystem.image import open_image
from btrimg.filesystem.spacecache import cached_free_space
from btrimg.ondisk.blocks import Key
from btrimg.ondisk.chunks import FreeSpaceHeader
from btrimg.ondisk.constants import STRIPE_LEN, ItemType, TreeId
from btrimg.ondisk.inodes import InodeItem
from btrimg.tables.build import build

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, MutableMapping
    from pathlib import Path

    Items = MutableMapping[Key, bytes]

pytestmark = [pytest.mark.kernel, pytest.mark.progs]


@pytest.fixture(scope="module")
def written(image_directory: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    return odd.cached(str(tmp_path_factory.mktemp("cached")))[0]


@pytest.fixture
def copied(written: str, tmp_path: Path) -> str:
    return images.copy_sparse([written], str(tmp_path / "copy"))[0]


def rows_of(path: str, said: Callable[[str], Any] = pytest.fail) -> list[tuple[Any, ...]]:
    with open_image(path, warn=said) as image:
        table = build(image, ["free_space"])["free_space"]
    return list(zip(*(column.tolist() for column in table.values()), strict=True))


def test_entries_and_bitmaps_are_what_the_extent_tree_leaves_free(written: str) -> None:
    with open_image(written, warn=pytest.fail) as image:
        found = build(image, ["free_space", "extents", "block_groups"])
        kinds = [key.type for key, _ in cached_free_space(image)]
    text = run_progs("inspect-internal", "dump-tree", "-t", "root", written)
    headers = re.findall(
        r"FREE_SPACE UNTYPED (\d+)\).*\n.*\n\t\tcache generation \d+ entries (\d+) bitmaps (\d+)", text
    )
    assert headers
    assert len(kinds) == sum(int(entries) for _, entries, _ in headers)
    assert kinds.count(ItemType.FREE_SPACE_BITMAP) == sum(int(bitmaps) for *_, bitmaps in headers) > 0
    assert len(kinds) > 240  # what a page holds
    space, groups, extents = found["free_space"], found["block_groups"], found["extents"]
    assert set(space["source"]) == {"cache"}
    for group in map(int, (logical for logical, *_ in headers)):
        at = np.flatnonzero(groups["logical"] == group)[0]
        end = group + int(groups["length"][at])
        free = (space["logical"] >= group) & (space["logical"] < end)
        used = (extents["logical"] >= group) & (extents["logical"] < end)
        left = int(groups["length"][at] - groups["used"][at]) - int(space["length"][free].sum())
        assert left in (0, STRIPE_LEN)  # what the second superblock takes is not free
        edges = [*zip(space["logical"][free], space["length"][free], strict=True)]
        edges += [*zip(extents["logical"][used], extents["length"][used], strict=True)]
        ordered = sorted((int(logical), int(length)) for logical, length in edges)
        assert all(logical + length <= following for (logical, length), (following, _) in pairwise(ordered))


def edits() -> Iterator[tuple[str, Callable[[Items], None], str]]:
    def header(change: Callable[[FreeSpaceHeader], FreeSpaceHeader]) -> Callable[[Items], None]:
        def edit(items: Items) -> None:
            key = next(key for key in items if key[:2] == (TreeId.FREE_SPACE, 0))
            items[key] = change(FreeSpaceHeader.unpack(items[key])).pack()

        return edit

    def inode(**fields: int) -> Callable[[Items], None]:
        def edit(items: Items) -> None:
            key = min(key for key in items if key.type == ItemType.INODE_ITEM and key.objectid >= 256)
            items[key] = InodeItem.unpack(items[key]).replace(**fields).pack()

        return edit

    def cut(items: Items) -> None:
        key = next(key for key in items if key[:2] == (TreeId.FREE_SPACE, 0))
        items[key] = items[key][:30]

    yield "stale", header(lambda each: each.replace(generation=each.generation - 1)), ""
    yield "stale inode", inode(generation=1), ""
    yield "too many entries", header(lambda each: each.replace(num_entries=1 << 60)), "space cache of block group"
    yield "cut short", cut, "space cache of block group"
    yield "endless file", inode(size=1 << 60), "bytes"
    yield "half a page", inode(size=5000), "bytes"
    yield "no pages", inode(size=0), "bytes"


@pytest.mark.parametrize(("edit", "says"), [row[1:] for row in edits()], ids=[row[0] for row in edits()])
def test_of_a_wrong_cache_there_is_nothing(edit: Callable[[Items], None], says: str, copied: str) -> None:
    edit_leaf(copied, TreeId.ROOT_TREE, edit)
    said: list[str] = []
    assert rows_of(copied, said.append) == []
    assert len(said) == bool(says)
    assert all(says in text for text in said)


def test_a_damaged_page_is_reported(copied: str) -> None:
    with open_image(copied, warn=pytest.fail) as image:
        (row,) = (row for row in image.root_tree.items() if row[0][:2] == (TreeId.FREE_SPACE, 0))
        inode = FreeSpaceHeader.unpack(row[1]).location.objectid
        extent = image.root_tree.get(Key(inode, ItemType.EXTENT_DATA, 0))
        place = image.volume.chunk_map.locate(int.from_bytes(extent[21:29], "little")).copies[0]
    with open(copied, "r+b") as file:
        file.seek(place.physical + 4096 + 100)
        file.write(b"damaged")
    said: list[str] = []
    assert rows_of(copied, said.append) == []
    assert re.search(r"space cache of block group \d+: the crc of its page 1 is", said[0])
