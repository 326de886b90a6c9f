"""From logical addresses back to their users, by the extent tree: against a walk of all trees."""

from __future__ import annotations

import os
from collections import defaultdict
from typing import TYPE_CHECKING

import pytest
from support import kernel
from support.forge import edit_leaf
from support.images import MIB, copy_sparse, mkfs, new_devices

from btrimg.filesystem.backrefs import Backrefs
from btrimg.filesystem.forest import item_roots, superblock_roots
from btrimg.filesystem.image import open_image
from btrimg.ondisk.blocks import Key
from btrimg.ondisk.constants import U64_MAX, ItemType, TreeId
from btrimg.ondisk.extents import ExtentItem, InlineDataRef, InlineRef, InlineSharedDataRef
from btrimg.trees.block import Pointer, is_subvolume

if TYPE_CHECKING:
    from collections.abc import Callable, MutableMapping, Sequence
    from pathlib import Path
    from typing import Any

    from support.images import KernelImage

    from btrimg.filesystem.backrefs import Extent
    from btrimg.filesystem.image import Image
    from btrimg.trees.block import Block

EVERYWHERE = 1 << 63

IMAGES: dict[str, dict[str, Any]] = {
    "single": {},
    "small nodes": {"profile": "dup", "nodesize": 4096, "csum": "xxhash", "compression": "zstd"},
    "old metadata": {"features": ("^skinny-metadata",)},
    "space cache": {"mkfs_options": ("--runtime-features", "^free-space-tree")},
    "raid10": {"profile": "raid10"},
    "raid5": {"profile": "raid5"},
    "raid6": {"profile": "raid6"},
}


def _fail(message: str) -> None:
    raise AssertionError(message)


def users_by_census(image: Image) -> dict[int, set[tuple[int, int, int]]]:
    """Return (subvolume, inode, file offset) of all file extents, by the logical address of their extent."""
    rows = image.extents()
    found = defaultdict(set)
    columns = (rows.extent_logical, rows.subvolume, rows.inode, rows.offset)
    for logical, *use in zip(*(column.tolist() for column in columns), strict=True):
        if logical:
            found[logical].add((use[0], use[1], use[2]))
    return found


def trees_by_walk(image: Image) -> dict[int, set[int]]:
    """Return the trees that lead to every tree block."""
    found = defaultdict(set)
    for root in {(root.id, root.at) for root in (*superblock_roots(image), *item_roots(image))}:
        pending = [root[1]]
        while pending:
            at = pending.pop()
            found[at.logical].add(root[0])
            if at.level:
                block = image.blocks.read(at)
                pending += block.children(range(len(block)), at)
    return found


def check(devices: Sequence[str]) -> list[Extent]:
    """Hold what the references say of every extent and tree block against the walks; give the extents."""
    with open_image(devices, warn=_fail) as image:
        backrefs = Backrefs(image)
        extents = list(backrefs.extents(0, EVERYWHERE))
        data = [extent for extent in extents if extent.level is None]
        found = {
            extent.logical: {(use.tree, use.ino, use.row.offset) for use in backrefs.uses(extent)} for extent in data
        }
        expected = users_by_census(image)
        files = {logical: {use for use in uses if is_subvolume(use[0])} for logical, uses in found.items()}
        assert {logical: uses for logical, uses in files.items() if uses} == expected
        assert all(found.values())
        assert max(len(uses) for uses in files.values()) > 5
        blocks = {extent.logical: extent for extent in extents if extent.level is not None}
        walked = trees_by_walk(image)
        assert set(blocks) == set(walked)
        for logical, extent in blocks.items():
            assert backrefs.trees(block_at(image, extent)) == walked[logical]
    return extents


@pytest.mark.kernel
@pytest.mark.progs
@pytest.mark.parametrize("options", IMAGES.values(), ids=IMAGES)
def test_users_and_trees_are_those_of_a_walk(options: dict[str, Any], kernel_image: Callable[..., KernelImage]) -> None:
    assert len(check(kernel_image(**options).devices)) > 100


def deep_image(directory: Path) -> tuple[str, ...]:
    """Write trees of three levels that share nodes, and an extent with more references than fit its item."""
    devices = new_devices(str(directory), 1, 256 * MIB)
    mkfs(devices, nodesize=4096)
    with kernel.mount(devices) as top:
        origin, first, second, third = (os.path.join(os.fsencode(top), name) for name in (b"o", b"a", b"b", b"c"))
        kernel.create_subvolume(origin)
        files = [os.path.join(origin, b"%05d" % number) for number in range(4000)]
        for number, file in enumerate(files):
            with open(file, "wb") as out:
                out.write(number.to_bytes(4, "little") * 1024)
        for file in files[1:4000:40]:
            kernel.clone(files[0], file)
        kernel.create_snapshot(origin, first, read_only=True)
        kernel.create_snapshot(first, second, read_only=False)
        for file in files[::200]:
            os.truncate(file, 2048)
        kernel.sync(top)
        kernel.create_snapshot(origin, third, read_only=True)
        for file in files[100::300]:
            os.unlink(file)
        for file in files[50:100]:
            kernel.clone(files[1], os.path.join(second, os.path.basename(file)))
        kernel.sync(top)
        kernel.delete_subvolume(first)
        kernel.finish_deletions(top)
    return devices


@pytest.mark.kernel
@pytest.mark.progs
def test_nodes_are_climbed_through_whatever_kind_of_reference(tmp_path: Path) -> None:
    extents = check(deep_image(tmp_path))
    assert {ref.type for extent in extents for ref in extent.refs} == {
        ItemType.TREE_BLOCK_REF,
        ItemType.SHARED_BLOCK_REF,
        ItemType.EXTENT_DATA_REF,
        ItemType.SHARED_DATA_REF,
    }
    assert max(len(extent.refs) for extent in extents) > 90, "they do not fit an item of 4 KiB nodes"
    assert max(extent.level or 0 for extent in extents) >= 2


def test_references_that_lie_lead_nowhere_or_to_what_is_there(demo_image: str, tmp_path: Path) -> None:
    broken = copy_sparse([demo_image], str(tmp_path))[0]
    with open_image(demo_image, warn=_fail) as image:
        extents = list(Backrefs(image).extents(0, EVERYWHERE))
        disk = next(e for e in extents if len(Backrefs(image).uses(e)) > 3)
        leaf = next(e for e in extents if e.level == 0 and 256 in Backrefs(image).trees(block_at(image, e)))
        other = image.tree(TreeId.FS_TREE).root.logical
        uses = Backrefs(image).uses(disk)

    def lie(items: MutableMapping[Key, bytes]) -> None:
        disk_key = Key(disk.logical, ItemType.EXTENT_ITEM, disk.length)
        head, endless = ExtentItem.unpack(items[disk_key]).replace(refs=U64_MAX), (1 << 32) - 1
        place = InlineDataRef(ItemType.EXTENT_DATA_REF, 256, 257, 0, endless)
        before = place.replace(offset=U64_MAX - 5)
        nowhere = place.replace(root=99999)
        shared = [InlineSharedDataRef(ItemType.SHARED_DATA_REF, at, endless) for at in (leaf.logical, other, 12345)]
        items[disk_key] = head.pack() + b"".join(ref.pack() for ref in (place, place, before, nowhere, *shared))
        own = InlineRef(ItemType.SHARED_BLOCK_REF, leaf.logical)
        strange = [InlineRef(ItemType.SHARED_BLOCK_REF, at) for at in (other, disk.logical, U64_MAX)]
        trees = [InlineRef(ItemType.TREE_BLOCK_REF, tree) for tree in (256, 5, 99999)]
        leaf_key = Key(leaf.logical, ItemType.METADATA_ITEM, 0)
        items[leaf_key] = items[leaf_key][:24] + b"".join(ref.pack() for ref in (own, own, *strange, *trees))

    edit_leaf(broken, TreeId.EXTENT_TREE, lie)
    said: list[str] = []
    with open_image(broken, warn=said.append) as image:
        backrefs = Backrefs(image)
        found = next(extent for extent in backrefs.extents(disk.logical, disk.logical + 1))
        assert len(found.refs) == 7
        assert backrefs.uses(found) == [use for use in uses if use.tree == 256]
        assert backrefs.trees(block_at(image, leaf)) == {256}
    assert any("12345" in sentence for sentence in said)
    assert any(f"tree block {leaf.logical}: level is 0, its parent says 1" in sentence for sentence in said)


def block_at(image: Image, extent: Extent) -> Block:
    return image.blocks.read(Pointer(extent.logical, extent.level or 0))
