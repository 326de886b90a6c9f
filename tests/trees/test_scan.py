"""The bulk scan against the point path, on images that the kernel wrote and on blocks that were damaged afterwards."""

from __future__ import annotations

import struct
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pytest

from btrimg.errors import BlockError, CorruptError
from btrimg.filesystem.image import Image, open_image
from btrimg.ondisk.blocks import Header, Item, Key, KeyPtr
from btrimg.ondisk.constants import ItemType, TreeId
from btrimg.trees.batches import ranges
from btrimg.trees.block import Block, Pointer, is_subvolume
from btrimg.trees.leafbatch import LeafBatch, leaf_of
from btrimg.trees.salvage import walk
from btrimg.trees.scan import Forest
from btrimg.trees.tree import Tree

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from support.images import KernelImage

    Items = list[tuple[Key, bytes]]

VARIANTS = (
    {"profile": "raid10", "nodesize": 4096, "csum": "sha256"},
    {"profile": "raid6", "nodesize": 16384, "csum": "xxhash"},
    {"profile": "raid1c3", "nodesize": 16384, "csum": "crc32c"},
    {"profile": "single", "metadata_profile": "dup", "nodesize": 65536, "csum": "blake2"},
)


def roots_of(image: Image) -> list[Pointer]:
    """Return the roots of all trees."""
    ids = {key.objectid for key, _ in image.root_tree.items() if key.type == ItemType.ROOT_ITEM}
    return [image.tree(tree_id).root for tree_id in sorted(ids | {TreeId.ROOT_TREE, TreeId.CHUNK_TREE})]


def scanned(image: Image, roots: list[Pointer], bad: Callable[[CorruptError], None]) -> list[Items]:
    """Return the items of every tree by a bulk scan."""
    forest = Forest(image.blocks, roots, bad)
    leaves: dict[int, Items] = {}
    for batch in forest.leaves():
        keys = map(Key, batch.objectid.tolist(), batch.key_type.tolist(), batch.offset.tolist())
        for leaf, key, start, size in zip(
            batch.leaf.tolist(), keys, batch.position.tolist(), batch.size.tolist(), strict=True
        ):
            leaves.setdefault(leaf, []).append((key, batch.data[start : start + size].tobytes()))
    return [[item for leaf in forest.leaves_of(n).tolist() for item in leaves.get(leaf, [])] for n in range(len(roots))]


def refuse(what: object) -> None:
    raise AssertionError(str(what))


@pytest.mark.kernel
@pytest.mark.progs
@pytest.mark.parametrize("options", VARIANTS, ids=lambda options: options["profile"])
def test_every_tree_equals_the_point_path(
    options: dict[str, str], kernel_image: Callable[..., KernelImage], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("btrimg.trees.batches.BATCH_BYTES", 1 << 18)  # so that levels take several batches
    with open_image(kernel_image(**options).devices, warn=refuse) as image:
        roots = roots_of(image)
        assert len(roots) > 12
        for root, items in zip(roots, scanned(image, roots, refuse), strict=True):
            assert items == list(Tree(image.blocks, root).items()), root.owner


@pytest.mark.kernel
@pytest.mark.progs
def test_what_snapshots_share_is_read_once(kernel_image: Callable[..., KernelImage]) -> None:
    with open_image(kernel_image(profile="raid1c3", nodesize=4096).devices, warn=refuse) as image:
        roots = [subvolume.tree.root for subvolume in image.subvolumes()]
        reached = [pointer.logical for root in roots for pointer, _ in walk(image.blocks, root)]
        before = image.blocks.blocks_read
        forest = Forest(image.blocks, roots, refuse)
        leaves = sum(batch.leaves for batch in forest.leaves())
        assert image.blocks.blocks_read - before == len(set(reached))
        assert leaves < len(set(reached)) < len(reached)


@pytest.mark.kernel
@pytest.mark.progs
def test_trees_without_files_are_whole_when_their_leaves_have_come(
    kernel_image: Callable[..., KernelImage], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("btrimg.trees.batches.BATCH_BYTES", 1 << 17)
    with open_image(kernel_image(**VARIANTS[0]).devices, warn=refuse) as image:
        roots = roots_of(image)
        forest = Forest(image.blocks, roots, refuse)
        some = [number for number, root in enumerate(roots) if not is_subvolume(root.owner or 0)]
        found: list[list[int]] = []
        left = 0
        for batch in forest.leaves():
            if found:
                left += batch.leaves
            elif batch.first_leaf + batch.leaves >= forest.first_of_files:
                found = [forest.leaves_of(number).tolist() for number in some]
        assert left > 10
        assert found == [forest.leaves_of(number).tolist() for number in some]
        files = [forest.leaves_of(number).min() for number in range(len(roots)) if number not in some]
        assert max(map(max, found)) < forest.first_of_files == min(files)


# Damage. The reference is the point path, which is told of the same damage.


class Damage(NamedTuple):
    """Write access to one tree block of an opened image, in all or some of its copies."""

    image: Image
    pointer: Pointer
    block: Block
    parent: int  #: logical address of the node that leads to it

    @contextmanager
    def written(self, data: bytes, copies: slice = slice(None), *, seal: bool = True) -> Iterator[Image]:
        """Put *data* in the place of the block, with a valid checksum if *seal*, for the length of the with block."""
        volume = self.image.volume
        if seal:
            csum = volume.csum.digest(data[32:])
            data = csum + data[len(csum) :]
        places = volume.chunk_map.locate(self.pointer.logical).copies[copies]
        try:
            self._write(places, data)
            yield self.image
        finally:
            self._write(places, self.block.data)

    def _write(self, places: Sequence[tuple[int, int]], data: bytes) -> None:
        for devid, physical in places:
            with open(self.image.volume.devices[devid].path, "r+b") as device:
                device.seek(physical)
                device.write(data)


@pytest.fixture(scope="module")
def dup_devices(kernel_image: Callable[..., KernelImage], tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    image = kernel_image(profile="single", metadata_profile="dup", nodesize=4096)
    return image.copy(str(tmp_path_factory.mktemp("damaged")))


@contextmanager
def opened(devices: tuple[str, ...], level: int) -> Iterator[Damage]:
    """Open an image and choose a block of the top-level subvolume that has a right neighbour."""
    with open_image(devices, warn=refuse) as image:
        blocks = [
            (pointer, block)
            for pointer, block in walk(image.blocks, image.tree(TreeId.FS_TREE).root)
            if isinstance(block, Block)
        ]
        found = [(pointer, block) for pointer, block in blocks if block.header.level == level and pointer.end_key]
        assert found
        pointer, block = found[len(found) // 2]
        [parent] = {
            node.header.bytenr
            for _, node in blocks
            if node.header.level > level and pointer.logical in {slot[3] for slot in node.slots}
        }
        yield Damage(image, pointer, block, parent)


def with_header(damage: Damage, **changes: object) -> bytes:
    return damage.block.header.replace(**changes).pack() + damage.block.data[Header.SIZE :]


def with_slot(damage: Damage, slot: int, *values: int) -> bytes:
    layout = struct.Struct("<QBQQQ" if damage.block.header.level else "<QBQII")
    data = bytearray(damage.block.data)
    layout.pack_into(data, Header.SIZE + slot * layout.size, *values)
    return bytes(data)


def swapped(damage: Damage) -> bytes:
    first, second = damage.block.slots[1:3]
    data = bytearray(with_slot(damage, 1, *second))
    size = KeyPtr.SIZE if damage.block.header.level else Item.SIZE
    start = Header.SIZE + 2 * size
    data[start : start + size] = damage.block.data[start - size : start]
    assert first < second
    return bytes(data)


DAMAGES: dict[str, tuple[str, Callable[[Damage], bytes]]] = {  # with the word for the fault
    "bytenr": ("bytenr", lambda d: with_header(d, bytenr=d.block.header.bytenr + 4096)),
    "fsid": ("fsid", lambda d: with_header(d, fsid=bytes(16))),
    "level": ("level", lambda d: with_header(d, level=d.block.header.level + 1)),
    "level out of range": ("level", lambda d: with_header(d, level=200)),
    "generation": ("generation", lambda d: with_header(d, generation=d.block.header.generation - 1)),
    "owner": ("owner", lambda d: with_header(d, owner=int(TreeId.EXTENT_TREE))),
    "nritems": ("nritems", lambda d: with_header(d, nritems=0xFFFF_FFFF)),
    "no items": ("first-key", lambda d: with_header(d, nritems=0)),
    "first key": ("first-key", lambda d: with_slot(d, 0, d.block.slots[0][0], 0, *d.block.slots[0][2:])),
    "order": ("key-order", swapped),
    "last key above the next block": (
        "last-key",
        lambda d: with_slot(d, len(d.block) - 1, 1 << 40, *d.block.slots[-1][1:]),
    ),
    "last key equal to the next block's": (
        "last-key",
        lambda d: with_slot(d, len(d.block) - 1, *(d.pointer.end_key or ()), *d.block.slots[-1][3:]),
    ),
}


@pytest.mark.kernel
@pytest.mark.progs
@pytest.mark.parametrize("level", [0, 1])
@pytest.mark.parametrize("name", DAMAGES)
def test_a_block_that_breaks_its_promise_is_reported_and_skipped(
    name: str, level: int, dup_devices: tuple[str, ...]
) -> None:
    with opened(dup_devices, level) as damage:
        root = damage.image.tree(TreeId.FS_TREE).root
        [intact] = scanned(damage.image, [root], refuse)
        fault, data_of = DAMAGES[name]
        with damage.written(data_of(damage)), open_image(dup_devices, warn=refuse) as image:
            reference: list[CorruptError] = []
            expected = list(image.tree(TreeId.FS_TREE).items(bad=reference.append))
            bad: list[CorruptError] = []
            [items] = scanned(image, [root], bad.append)
            assert items == expected
            assert 0 < len(items) < len(intact)
            assert [type(error) for error in reference] == [BlockError]
            assert {type(error) for error in bad} == {BlockError}
            # The scan also looks at a child that only the bad node has, before it knows the node's neighbours.
            assert len(bad) == (2 if level and name.startswith("last key") else 1)
            [error] = [each for each in bad if isinstance(each, BlockError) and each.logical == damage.pointer.logical]
            assert (error.level, error.tree) == (level, TreeId.FS_TREE)
            assert error.parent == damage.parent
            assert error.fault == ("nritems" if level and name == "no items" else fault)


@pytest.mark.kernel
@pytest.mark.progs
@pytest.mark.parametrize("level", [0, 1])
@pytest.mark.parametrize("copy", [0, 1])
def test_one_bad_copy_changes_nothing(copy: int, level: int, dup_devices: tuple[str, ...]) -> None:
    with opened(dup_devices, level) as damage:
        roots = roots_of(damage.image)
        expected = scanned(damage.image, roots, refuse)
        garbage = bytes(reversed(damage.block.data))
        with damage.written(garbage, slice(copy, copy + 1), seal=False):
            heard: list[str] = []
            with open_image(dup_devices, warn=heard.append) as image:
                assert scanned(image, roots, refuse) == expected
            assert len(heard) == (copy == 0)
            assert all(f"tree block {damage.pointer.logical}: bad checksum" in line for line in heard)


@pytest.mark.kernel
@pytest.mark.progs
def test_an_item_outside_its_leaf_is_reported_and_skipped(dup_devices: tuple[str, ...]) -> None:
    with opened(dup_devices, 0) as damage:
        *key, offset, size = damage.block.slots[2]
        for at, length in ((offset, 5000), (0xFFFF_FFF0, size), (10, size)):
            with damage.written(with_slot(damage, 2, *key, at, length)), open_image(dup_devices, warn=refuse) as image:
                reference: list[CorruptError] = []
                expected = list(image.tree(TreeId.FS_TREE).items(bad=reference.append))
                bad: list[CorruptError] = []
                assert scanned(image, [image.tree(TreeId.FS_TREE).root], bad.append) == [expected]
                assert len(bad) == len(reference) == 1
                assert f"[{at}, +{length}) lies outside" in str(bad[0])


@pytest.mark.kernel
@pytest.mark.progs
def test_a_root_that_cannot_be_is_reported_and_the_other_trees_are_read(dup_devices: tuple[str, ...]) -> None:
    with open_image(dup_devices, warn=refuse) as image:
        good = image.tree(TreeId.FS_TREE).root
        roots = [good._replace(level=200), good._replace(logical=1 << 63), good, good._replace(logical=4096 + 512)]
        bad: list[CorruptError] = []
        assert scanned(image, roots, bad.append) == [[], [], list(image.tree(TreeId.FS_TREE).items()), []]
        assert [type(error) for error in bad] == [BlockError] * 3


def test_ranges_are_joined_in_order() -> None:
    assert ranges(np.array([7, 0, 3]), np.array([2, 0, 3])).tolist() == [7, 8, 3, 4, 5]
    assert ranges(np.array([], np.int64), np.array([], np.int64)).tolist() == []


def test_what_is_made_of_a_batch_is_made_once_and_not_of_others() -> None:
    batch = leaf_of([(Key(number, 1, 0), bytes([number])) for number in range(5)], 0)
    made: list[int] = []

    def make(items: LeafBatch) -> int:
        made.append(len(items.leaf))
        return len(items.leaf)

    some = batch.take(np.array([True, False, True, False, False]))
    assert batch.take(np.ones(5, np.bool_)) is batch
    assert some.objectid.tolist() == batch.take(np.array([0, 2])).objectid.tolist() == [0, 2]
    assert [batch.once(make), batch.once(make), some.once(make), batch.once(make)] == [5, 5, 2, 5]
    assert made == [5, 2]
