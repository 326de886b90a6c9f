"""Of a snapshot only what differs: every inode that differs is among it, whole, with what it is linked to."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from btrimg.filesystem.image import open_image
from btrimg.ondisk.constants import ItemType, TreeId
from btrimg.tables.build import build
from btrimg.tables.differences import ENDS, Differences, version_table
from btrimg.tables.leafscan import LeafScan, every_tree
from btrimg.tables.schema import INODES, NAMES, RELATIONS

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.images import KernelImage

    from btrimg.filesystem.image import Image
    from btrimg.tables.leafscan import Gathered

Items = dict[int, dict[int, set[tuple[int, int, bytes]]]]  # by subvolume and inode

RELATIONS_OF_FILES = [NAMES, *(RELATIONS[name] for name in ENDS if name != NAMES.name)]  # names come first


def items_of(image: Image) -> Items:
    found: Items = {}
    trees = [(subvolume.id, subvolume.tree) for subvolume in image.subvolumes()]
    for number, tree in (*trees, (int(TreeId.DATA_RELOC_TREE), image.tree(TreeId.DATA_RELOC_TREE))):
        inodes = found.setdefault(number, defaultdict(set))
        for key, payload in tree.items():
            inode = key.offset if key.objectid == TreeId.ORPHAN else key.objectid
            inodes[inode].add((key.type, key.offset, payload))
    return found


def differing(image: Image) -> tuple[dict[int, set[int]], dict[str, Gathered], Any]:
    inodes: list[Any] = []

    def further(scan: LeafScan) -> Any:
        inodes.append(version_table(scan))
        return inodes

    scan = LeafScan(image, RELATIONS_OF_FILES, every_tree(image), further)
    found = Differences(scan, *inodes)
    gathered = {relation.name: found.gathered(relation) for relation in RELATIONS_OF_FILES}
    numbers = {scan.trees[number][0]: set(each.tolist()) for number, each in found.inodes.items()}
    return numbers, gathered, found.differs(gathered[INODES.name])


def check(path: str) -> int:
    """Check what is left out; return how many inodes are."""
    with open_image(path, warn=pytest.fail) as image:
        items = items_of(image)
        numbers, gathered, differs = differing(image)
        whole = build(image, list(ENDS))
    assert set(numbers) == set(items)
    seen: list[int] = []
    for subvolume, inodes in items.items():
        # Whatever is left out is, item by item, as in one and the same subvolume before.
        same = inodes.keys() - numbers[subvolume]
        assert not same or any(all(inodes[i] == items[base].get(i) for i in same) for base in seen)
        seen.append(subvolume)
    left_out = sum(map(len, items.values())) - sum(map(len, numbers.values()))
    for name, ends in ENDS.items():
        column = "tree" if name == "orphans" else "subvolume"
        every = zip(whole[name][column], *(whole[name][end] for end in ends), strict=True)
        wanted = np.array([any(int(end) in numbers.get(int(row[0]), ()) for end in row[1:]) for row in every])
        if name == NAMES.name:
            wanted |= whole[name]["location_type"] == ItemType.ROOT_ITEM
        rows = np.flatnonzero(wanted)
        found = gathered[name]
        mine = differs if name == INODES.name else np.ones(len(found.rows), np.bool_)
        mine = mine & (found.trees != TreeId.DATA_RELOC_TREE)  # which the tables that people ask leave out
        for end in ends:
            values: Any = found.different[end]
            assert sorted(zip(found.trees[mine].tolist(), values[found.rows][mine].tolist(), strict=True)) == sorted(
                zip(whole[name][column][rows].tolist(), whole[name][end][rows].tolist(), strict=True)
            )
    return left_out


def linked(path: str) -> None:
    """Both ends of every name that is there have their inode, if there is one."""
    with open_image(path, warn=pytest.fail) as image:
        _, gathered, _ = differing(image)
        whole = build(image, [INODES.name])[INODES.name]
    names, inodes = gathered[NAMES.name], gathered[INODES.name]
    numbers: Any = inodes.different["inode"]
    there = set(zip(inodes.trees.tolist(), numbers[inodes.rows].tolist(), strict=True))
    exist = set(zip(whole["subvolume"].tolist(), whole["inode"].tolist(), strict=True))
    for end in ENDS[NAMES.name]:
        column: Any = names.different[end]
        kinds: Any = names.different["location_type"]
        plain = kinds[names.rows] != ItemType.ROOT_ITEM
        wanted = set(zip(names.trees[plain].tolist(), column[names.rows][plain].tolist(), strict=True))
        assert wanted & exist <= there


def test_of_the_demo(demo_image: str) -> None:
    check(demo_image)
    linked(demo_image)


@pytest.mark.kernel
def test_of_many_snapshots(kernel_image: Callable[..., KernelImage]) -> None:
    (path,) = kernel_image(nodesize=4096).devices
    assert check(path) > 100
    linked(path)
