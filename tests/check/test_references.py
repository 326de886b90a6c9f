"""What the trees refer to, against what the extent tree records: equal on what the kernel wrote, to the last count."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from support import images, kernel
from support.bases import BASES
from support.populate import Filler

from btrimg.check.disputes import disputed, owner_refs, recounted, unowned
from btrimg.check.makers import Scanned
from btrimg.check.references import KINDS, data_uses, references
from btrimg.filesystem.forest import deleted_pointers, item_roots
from btrimg.filesystem.image import open_image
from btrimg.filesystem.leafrows import LeafTable
from btrimg.ondisk.blocks import DiskKey
from btrimg.tables.leafscan import Deleted, LeafScan, deleted_trees, every_tree
from btrimg.tables.schema import BACKREFS, EXTENTS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from btrimg.filesystem.image import Image
    from btrimg.tables.relation import Relation


REFERENCE = ("extent", "kind", "root", "parent", "inode", "offset")


def scan(image: Image) -> Scanned:
    """Return what the relations of references are made of."""
    uses = LeafTable(data_uses)
    found = LeafScan(image, [EXTENTS, BACKREFS], every_tree(image), lambda _scan: [uses], deleted_trees(image))
    gathered = {relation.name: found.gathered(relation).in_order() for relation in (EXTENTS, BACKREFS)}
    parts: dict[str, Any] = dict.fromkeys(Scanned._fields)
    parts |= {"image": image, "scan": found, "tables": {"data_uses": uses}, "gathered": gathered, "made": {}}
    return Scanned(**parts)


def made_and_recorded(scanned: Scanned) -> tuple[Counter[tuple[int, ...]], Counter[tuple[int, ...]]]:
    """Return all references by the trees, and all by the extent tree, with their counts, one by one."""
    extents, backrefs = (columns_of(scanned, relation) for relation in (EXTENTS, BACKREFS))
    uses = scanned.tables["data_uses"]
    made = references(scanned.scan.forest, scanned.scan.trees, uses, extents, scanned.image.volume.nodesize).references
    by_trees = Counter(zip(*(getattr(made, name).tolist() for name in REFERENCE), strict=True))
    recorded: Counter[tuple[int, ...]] = Counter()
    backrefs["offset"] = backrefs["offset"].view("u8")
    for *reference, count in zip(*(backrefs[name].tolist() for name in (*REFERENCE, "count")), strict=True):
        recorded[tuple(reference)] += count
    return by_trees, recorded


def columns_of(scanned: Scanned, relation: Relation) -> dict[str, Any]:
    """Return the columns of a relation, words as their indexes."""
    gathered = scanned.gathered[relation.name]
    return {name: values[gathered.rows] for name, values in gathered.different.items()}


def snapshots(directory: str) -> Sequence[str]:
    """Snapshot trees of three levels, change all sides, and delete the origin."""
    devices = images.new_devices(directory, 1, 256 * images.MIB)
    images.mkfs(devices, "single", "single", 4096)
    with kernel.mount(devices) as top:
        fill = Filler(top)
        kernel.create_subvolume(fill.path(b"origin"))
        for number in range(2000):
            fill.write(b"origin/%04d" % number, fill.noise(3000 if number % 9 else 30))
        for snapshot in (b"one", b"two"):
            kernel.create_snapshot(fill.path(b"origin"), fill.path(snapshot), read_only=False)
            for number in range(0, 1000, 151):
                fill.write(snapshot + b"/%04d" % number, fill.noise(5000))
                fill.write(b"origin/%04d" % (number + 1000), fill.noise(5000))
            fill.sync()
        kernel.delete_subvolume(fill.path(b"origin"))
    return devices


IMAGES = {**BASES, "snapshots": snapshots}
KINDS_OF = {
    "rich": {"tree_block", "extent_data", "shared_data"},
    "snapshots": {"tree_block", "shared_block", "extent_data", "shared_data"},
}


@pytest.mark.kernel
@pytest.mark.parametrize("name", IMAGES)
def test_references_are_those_that_the_kernel_recorded(name: str, tmp_path: Path) -> None:
    with open_image(IMAGES[name](str(tmp_path)), replay_log=None, warn=lambda _message: None) as image:
        scanned = scan(image)
        by_trees, recorded = made_and_recorded(scanned)
        assert by_trees == recorded
        assert {KINDS[kind] for _, kind, *_ in recorded} >= KINDS_OF.get(name, set())
        if name == "rich":
            assert max(recorded.values()) > 5
            assert any(offset >> 63 for *_, offset in recorded)
        for relation in (disputed, recounted, owner_refs, unowned):
            assert {column: len(values) for column, values in relation(scanned).items() if len(values)} == {}


@pytest.mark.kernel
def test_what_a_deletion_freed_comes_before_its_key(tmp_path: Path) -> None:
    with open_image(BASES["rich"](str(tmp_path))) as image:
        root = next(root for root in item_roots(image) if root.at.level == 2)
        assert root.item
        assert deleted_pointers(image, root) == {}
        top = image.blocks.read(root.at)
        below = top.child(1, root.at)
        node = image.blocks.read(below)
        for level, slot, expected in (
            (1, 2, {root.at.logical: 1, below.logical: 2}),
            (1, 0, {root.at.logical: 1, below.logical: 0}),
            (2, 1, {root.at.logical: 1}),
        ):
            key = node.key(slot) if level == 1 else top.key(slot)
            begun = root.item.replace(refs=0, drop_progress=DiskKey(*key), drop_level=level)
            assert deleted_pointers(image, root._replace(item=begun)) == expected
        kept = root.item.replace(drop_progress=DiskKey(*node.key(2)), drop_level=1)  # of a reloc tree: it is merged
        assert deleted_pointers(image, root._replace(item=kept)) == {}


def _leaves(image: Image, skipped: dict[int, int]) -> Sequence[int]:
    root = next(root for root in item_roots(image) if root.at.level == 2)
    trees = [(root.id, root.at)]
    found = LeafScan(image, [], [], deleted=Deleted(trees, skipped))
    numbers: list[int] = found.leaves_of(0).tolist()
    return numbers


@pytest.mark.kernel
def test_pointers_to_what_is_freed_are_not_followed(tmp_path: Path) -> None:
    with open_image(BASES["rich"](str(tmp_path))) as image:
        root = next(root for root in item_roots(image) if root.at.level == 2)
        whole = len(_leaves(image, {}))
        top = image.blocks.read(root.at)
        first, second = (image.blocks.read(top.child(slot, root.at)) for slot in (0, 1))
        assert len(_leaves(image, {root.at.logical: 1})) == whole - len(first)
        both = {root.at.logical: 1, second.header.bytenr: 3}
        assert len(_leaves(image, both)) == whole - len(first) - 3
